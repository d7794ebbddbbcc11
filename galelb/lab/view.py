# SPDX-License-Identifier: Apache-2.0
"""How the demo looks: a live picture on a terminal, plain lines elsewhere, a table at the end."""

from __future__ import annotations

import time
from collections import Counter, deque
from types import TracebackType
from typing import Any, Self

import trio
from rich.bar import Bar
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from galelb.lab.demo import problems_of
from galelb.lab.holders import find_holders, vips_of
from galelb.lab.hosts import Plan, Role
from galelb.lab.tally import EVENTS, Tally

__all__ = ["DemoView", "final_table"]

_REFRESH_S = 0.25
_BAR_WIDTH = 40
_LINES = 8


class DemoView:
    """Shows a running demo; a context manager, used from one thread."""

    def __init__(self, console: Console, plan: Plan, tally: Tally) -> None:
        self._console = console
        self._plan = plan
        self._tally = tally
        self._started = time.monotonic()
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._live: Live | None = None
        self._last = (time.monotonic(), Counter[str]())
        self._rates: dict[str, float] = {}
        self._holders: dict[str, frozenset[str]] = {}

    def __enter__(self) -> Self:
        """Begin to draw, when there is a terminal to draw on."""
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the terminal as it was."""
        if self._live is not None:
            self._live.stop()
            for line in self._lines:
                self._console.print(line, markup=False)

    def say(self, line: str) -> None:
        """Show one line about an event."""
        stamped = f"{time.monotonic() - self._started:5.1f} s  {line}"
        self._lines.append(stamped)
        if self._live is None:
            self._console.print(stamped, highlight=False, markup=False)

    async def keep_drawing(self) -> None:
        """Draw again a few times a second until cancelled; does nothing without a terminal."""
        while self._live is not None:
            self._measure()
            if self._plan.spec.is_group:
                self._holders = await find_holders(self._plan)
            self._live.update(self._picture(), refresh=True)
            await trio.sleep(_REFRESH_S)

    def _measure(self) -> None:
        now, (before, counts) = time.monotonic(), self._last
        if now - before < 1:
            return
        fresh = self._tally.per_node - counts
        self._rates = {name: fresh[name] / (now - before) for name in self._tally.per_node}
        self._last = now, self._tally.per_node.copy()

    def _picture(self) -> RenderableType:
        tally, spec = self._tally, self._plan.spec
        unexplained = len(tally.unexplained) + len(tally.broken) + len(tally.broken_held)
        title = Text.assemble(
            ("galelb lab", "bold"),
            f"   {spec.plugin}   clients {spec.clients}, balancers {spec.balancers}, ",
            f"nodes {spec.nodes}",
        )
        counts = Text.assemble(
            (f"{tally.rate(time.monotonic()):4.0f} requests/s", "bold cyan"),
            f"   requests {tally.requests}   downloads {tally.downloads}   ",
            (f"failed {tally.failures}, ", "yellow" if tally.failures else ""),
            (f"of these without a reason {unexplained}", "bold red" if unexplained else "green"),
        )
        lines = (Text(line) for line in self._lines)
        balancers = (self._balancers(), Text()) if spec.is_group else ()
        return Group(title, counts, Text(), *balancers, self._bars(), Text(), *lines)

    def _balancers(self) -> Table:
        table = Table.grid(padding=(0, 1))
        for balancer in self._plan.of(Role.BALANCER):
            dead = balancer.name in self._tally.dead
            vips = ", ".join(sorted(vips_of(self._holders, balancer)))
            table.add_row(
                Text(balancer.name, "bold red" if dead else ""),
                Text("lost" if dead else vips or "no VIP", "red" if dead else "cyan"),
            )
        return table

    def _bars(self) -> Table:
        table = Table.grid(padding=(0, 1))
        most = max(1.0, *self._rates.values()) if self._rates else 1.0
        for node in self._plan.of(Role.NODE):
            rate = self._rates.get(node.name, 0.0)
            dead = node.name in self._tally.dead
            bar = Bar(most, 0, rate, width=_BAR_WIDTH, color="cyan")
            name = Text(node.name, "bold red" if dead else "")
            count = f"{self._tally.per_node[node.name]:7d}"
            table.add_row(name, bar, f"{rate:5.0f}/s", Text(count, "dim"))
        return table


def final_table(plan: Plan, result: dict[str, Any]) -> RenderableType:
    """Return the summary that stays on the screen."""
    total = sum(result["per_node"].values()) or 1
    weights = sum(node.weight for node in plan.of(Role.NODE))
    nodes = Table("node", "weight", "requests", "share", "expected", box=None, padding=(0, 2))
    for node in plan.of(Role.NODE):
        count = result["per_node"][node.name]
        share, expected = f"{count / total:.1%}", f"{node.weight / weights:.1%}"
        nodes.add_row(node.name, str(node.weight), str(count), share, expected)
    events = Table("event", "failed", "recovered after", box=None, padding=(0, 2))
    for event, title in EVENTS.items():
        if event in result:
            after = result[event]["recovered_s"]
            shown = "never" if after is None else f"{after:.2f} s"
            events.add_row(title, str(result[event]["failed"]), shown)
    downloads = result["downloads"]
    summary = (
        f"{result['requests']} requests, {result['failed']} failed outside these events; "
        f"{downloads['total']} downloads, {downloads['broken']} broken"
    )
    if "held" in result:
        held = result["held"]
        summary += (
            f"\n{held['total']} connections held while balancers came and went: {held['broken']}"
            f" broken, longest stall {held['longest_stall_s']:.2f} s"
        )
    if "client_address_seen" in result:
        summary += "\n" + _direct(result)
    problems = problems_of(result)
    verdict = Text("; ".join(problems), "bold red") if problems else Text("all well", "bold green")
    return Group(nodes, Text(), events, Text(), Text(summary), verdict)


def _direct(result: dict[str, Any]) -> str:
    answers, seen = result["answers_past_balancer"], result["client_address_seen"]
    told = "by which way answers came is not known: nftables is not installed"
    if answers is not None:
        told = f"{answers['answers']} packets of answers, {answers['relayed']} through a balancer"
    total = seen["own"] + seen["other"]
    return f"{told}; nodes saw the client's own address {seen['own']} times of {total}"
