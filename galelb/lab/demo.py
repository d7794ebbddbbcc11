# SPDX-License-Identifier: Apache-2.0
"""The demonstration: real traffic through a lab while hosts die and return."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import trio

from galelb.lab.clients import run_load
from galelb.lab.configs import CHECKS_TIMEOUT_S
from galelb.lab.demo_group import GroupEvents
from galelb.lab.demo_jobs import steady_jobs
from galelb.lab.hosts import Host, Plan, Role
from galelb.lab.lab import kill_host, start_host
from galelb.lab.ready import wait_unused
from galelb.lab.state import LabState
from galelb.lab.tally import EVENTS, Tally, Window

__all__ = ["Demo", "problems_of"]

_STEADY_S = 4.0
_DEAD_S = 1.0
_SHARE_OF_OUTAGE = 0.15
"""The demo goes on until the node was out for no more than this part of it, so that the
counts at its end show the weights and not the outage."""
_LONGEST_TAIL_S = 20.0

_DETECTION_S = CHECKS_TIMEOUT_S + 1.0
_TABLE_WRITTEN_S = 0.2
"""From "not used any more" in the API to the table in the kernel, a slow machine included."""
_RETURN_TIMEOUT_S = 20.0
_FLOWS_MOVED_S = 0.7
"""After a new table: until every connection has sent something, and learnt that it moved."""
_POLL_S = 0.05


@attrs.define
class Demo:
    """One run; `tally` may be looked at while `run` goes on."""

    state: LabState
    tally: Tally
    say: Callable[[str], None]
    """Called with one line about each event."""
    started: float = attrs.Factory(time.monotonic)

    async def run(self) -> None:
        """Send traffic, let things happen, stop the traffic."""
        self.started = time.monotonic()
        stop = trio.Event()
        plan = self.state.plan
        async with trio.open_nursery() as nursery:
            for client in plan.of(Role.CLIENT):
                nursery.start_soon(run_load, client, steady_jobs(plan), self.tally.add, stop)
            await self._timeline(plan)
            stop.set()

    async def _timeline(self, plan: Plan) -> None:
        self.say("clients send requests and downloads")
        await trio.sleep(_STEADY_S)
        # The lightest: the less it carries, the less its absence bends the shares of the rest.
        node = min(reversed(plan.of(Role.NODE)), key=lambda node: node.weight)
        death = await self._kill_node(node)
        await trio.sleep(_DEAD_S)
        await self._return_node(node)
        out_s = time.monotonic() - death
        await trio.sleep(_STEADY_S / 2)
        if plan.spec.is_group:
            await GroupEvents(self.state, self.tally, self.say).run()
        until = self.started + out_s / _SHARE_OF_OUTAGE - time.monotonic()
        await trio.sleep(min(max(_STEADY_S / 2, until), _LONGEST_TAIL_S))

    async def _kill_node(self, node: Host) -> float:
        window = self._open("node_kill", node)
        kill_host(self.state, node)
        self.say(f"{node.name}: agent and server killed (kill -9)")
        with trio.move_on_after(_DETECTION_S - _TABLE_WRITTEN_S):
            await wait_unused(self.state, node)
            window.recovered = time.monotonic()
            after = window.recovered - window.start
            self.say(f"{node.name}: out of the tables {after:.2f} s after its death")
        await trio.sleep(_TABLE_WRITTEN_S)
        window.end = time.monotonic()
        return window.start

    async def _return_node(self, node: Host) -> None:
        window = self._open("node_return", node)
        start_host(self.state, node)
        self.say(f"{node.name}: started again")
        with trio.move_on_after(_RETURN_TIMEOUT_S):
            window.recovered = await self._first_answer(node, window.start)
            after = window.recovered - window.start
            self.say(f"{node.name}: answers clients again after {after:.2f} s")
        if self.state.spec.stateless:
            await trio.sleep(_FLOWS_MOVED_S)
        window.end = time.monotonic()

    async def _first_answer(self, node: Host, since: float) -> float:
        while True:
            if self.tally.last_seen(node.name) >= since:
                return self.tally.last_seen(node.name)
            await trio.sleep(_POLL_S)

    def _open(self, event: str, host: Host) -> Window:
        window = Window(
            event=event,
            host=host.name,
            start=time.monotonic(),
            moves_flows=self.state.spec.stateless and host.role is Role.NODE,
        )
        self.tally.windows.append(window)
        return window


def problems_of(result: dict[str, Any]) -> list[str]:
    """Return what is wrong with a finished demo; empty when the product did its work."""
    problems = []
    if result["failed"]:
        problems.append(f"{result['failed']} requests failed without a reason")
    if result["downloads"]["broken"]:
        problems.append(f"{result['downloads']['broken']} downloads broke without a reason")
    problems += [f"{name} got no request" for name, n in result["per_node"].items() if not n]
    if "held" in result and result["held"]["broken"]:
        problems.append(f"{result['held']['broken']} held connections broke without a reason")
    for event in EVENTS:
        if event in result and result[event]["recovered_s"] is None:
            problems.append(f"no recovery was seen after {event}")
    return [*problems, *_detours(result)]


def _detours(result: dict[str, Any]) -> Iterator[str]:
    """What must not be where nodes answer clients directly."""
    answers = result.get("answers_past_balancer")
    if answers is not None and answers["relayed"]:
        yield f"{answers['relayed']} answers passed a balancer"
    if answers is not None and not answers["answers"]:
        yield "no answer was counted at the clients"
    seen = result.get("client_address_seen")
    if seen is not None and seen["other"]:
        yield f"{seen['other']} times a node saw another address than the client's"
    if seen is not None and not seen["own"]:
        yield "no node told which address it saw"
