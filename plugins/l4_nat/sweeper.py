# SPDX-License-Identifier: Apache-2.0
"""Walks the flow tables all the time, so that expired flows give their ports back."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping

import attrs
import structlog
import trio
from galelb_plugins.l4_nat.layout import FAMILIES
from galelb_plugins.l4_nat.sweep import Swept, What, sweep

from galelb.errors import GaleError
from galelb.forwarder import DataPath
from galelb.model import Metric

__all__ = ["Sweeper", "Totals"]

log = structlog.get_logger()

PERIOD_S = 1.0
BITE = 4096
"""Runs of the program at a time: 262,144 entries, some tens of milliseconds.

The kernel waits for an RCU grace period around every call that repeats a program
(bpf_prog_change_xdp in net/bpf/test_run.c), 16 ms or more: small bites would do nothing else.
"""
BUDGET_S = 0.05
"""Time per period, after which no bite begins: a tenth of a core, however large the tables are."""
STATES = ("half_open", "established", "closing", "udp")


@attrs.define
class Totals:
    """Sums over one walk through a table."""

    flows: dict[str, int] = attrs.Factory(lambda: dict.fromkeys(STATES, 0))
    used: int = 0
    quarantined: int = 0

    def add(self, part: Swept) -> None:
        """Add one bite."""
        for state in STATES:
            self.flows[state] += getattr(part, state)
        self.used += part.used
        self.quarantined += part.quarantined


class Sweeper:
    """A component: sweeps a part of the tables each second, in a worker thread."""

    def __init__(
        self,
        datapath: DataPath,
        *,
        clock: Callable[[], float] = time.monotonic,
        in_thread: Callable[[Callable[[], None]], Awaitable[None]] = trio.to_thread.run_sync,
    ) -> None:
        self._datapath = datapath
        self._clock = clock
        self._in_thread = in_thread
        self._tables = [
            (what, version)
            for what, name in ((What.FLOWS, "flows"), (What.PORTS, "ports"))
            for version in FAMILIES
            if f"l4_nat_{name}{version}" in datapath.maps
        ]
        self._bites: Iterator[None] | None = None
        self._whole: dict[tuple[What, int], Totals] = {}
        self._walks = 0
        self._removed = 0
        self._failing = False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Sweep until cancelled; a failure is logged once and tried again."""
        task_status.started()
        while True:
            await trio.sleep(PERIOD_S)
            try:
                await self._in_thread(self.sweep_some)
            except GaleError as error:
                self._failed(error)
            else:
                self._failing = False

    def sweep_some(self) -> None:
        """Go on with the walk for as long as the budget lasts, or to its end; blocks."""
        end = self._clock() + BUDGET_S
        if self._bites is None:
            self._bites = self._walk()
        while self._clock() < end:
            if next(self._bites, self) is self:
                self._bites = None
                return

    def flow_count(self) -> int:
        """Return how many flows the last whole walks saw."""
        walks = [totals for (what, _), totals in self._whole.items() if what is What.FLOWS]
        return sum(sum(totals.flows.values()) for totals in walks)

    def metrics(self) -> list[Metric]:
        """Return what the last whole walks saw."""
        found: list[Metric] = []
        for (what, version), totals in sorted(self._whole.items()):
            family = {"family": f"ipv{version}"}
            if what is What.FLOWS:
                found += [
                    _metric("flows", "Tracked flows.", count, family | {"state": state})
                    for state, count in totals.flows.items()
                ]
                continue
            found.append(_metric("ports_in_use", "Source ports of flows.", totals.used, family))
            text = "Source ports that wait until nodes have forgotten them."
            found.append(_metric("ports_quarantined", text, totals.quarantined, family))
        return [
            *found,
            _counter("sweeps_total", "Walks through all tables.", self._walks),
            _counter("expired_total", "Flows that the sweep removed.", self._removed),
        ]

    def _walk(self) -> Iterator[None]:
        """Sweep all tables once, pausing after each bite."""
        for what, version in self._tables:
            totals = Totals()
            first, done = 0, False
            while not done:
                part = sweep(self._datapath, what, version, first, BITE)
                totals.add(part)
                self._removed += part.removed if what is What.FLOWS else 0
                first, done = part.next, part.done
                yield
            self._whole[what, version] = totals
        self._walks += 1

    def _failed(self, error: GaleError) -> None:
        self._bites = None
        if not self._failing:
            log.warning("flow_sweep_failed", error=str(error))
        self._failing = True


def _metric(name: str, text: str, value: float, labels: Mapping[str, str]) -> Metric:
    return Metric(name=f"galelb_l4_nat_{name}", help=text, value=value, labels=dict(labels))


def _counter(name: str, text: str, value: float) -> Metric:
    return attrs.evolve(_metric(name, text, value, {}), kind="counter")
