# SPDX-License-Identifier: Apache-2.0
"""What happens to balancers in the demo: one is lost and returns, one is cut off and healed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence

import attrs
import trio

from galelb.errors import LabError
from galelb.lab.balancer_api import peers
from galelb.lab.clients import run_load
from galelb.lab.demo_jobs import held_jobs, targets_of
from galelb.lab.group_ready import wait_group
from galelb.lab.holders import find_holders, vips_of
from galelb.lab.hosts import Host, Role
from galelb.lab.http_client import FetchError
from galelb.lab.lab import kill_host, start_host
from galelb.lab.state import LabState
from galelb.lab.tally import Tally, Window
from galelb.lab.topology import cut, heal

__all__ = ["GroupEvents"]

_TAKEOVER_TIMEOUT_S = 15.0
_BETWEEN_S = 2.0
_CUT_OFF_S = 3.0
_POLL_S = 0.05
_UNSHARED_S = 0.5
"""Flows that are younger may be unknown to the other balancers: twice what sharing takes, or on a
slow machine twice what it has taken last."""
_LEAST_FOR_PARTITION = 3
"""Of two balancers none has a majority, so both go on."""


Homes = dict[str, frozenset[str]]
"""By VIP the balancers that have it while all is well."""


@attrs.define
class GroupEvents:
    """The part of a demo that is about balancers; connections are held open all the while."""

    state: LabState
    tally: Tally
    say: Callable[[str], None]

    async def run(self) -> None:
        """Let everything happen."""
        balancers = self.state.plan.of(Role.BALANCER)
        async with self._held():
            homes = await find_holders(self.state.plan)
            lost = _owner(homes, balancers)
            await self._lose(lost, homes)
            await trio.sleep(_BETWEEN_S)
            await self._return(lost, homes)
            if len(balancers) >= _LEAST_FOR_PARTITION:
                await trio.sleep(_BETWEEN_S)
                other = _owner(homes, [one for one in balancers if one is not lost])
                await self._cut_off(other, homes)
                await trio.sleep(_CUT_OFF_S)
                await self._heal(other, homes)
            await trio.sleep(_BETWEEN_S)

    @contextlib.asynccontextmanager
    async def _held(self) -> AsyncIterator[None]:
        """Hold connections open meanwhile; they may not break with any balancer."""
        plan, stop = self.state.plan, trio.Event()
        async with trio.open_nursery() as nursery:
            for client in plan.of(Role.CLIENT):
                nursery.start_soon(run_load, client, held_jobs(plan), self.tally.add, stop)
            self.say("clients hold connections open, with messages both ways")
            await trio.sleep(_BETWEEN_S)
            yield
            stop.set()

    async def _lose(self, balancer: Host, homes: Homes) -> None:
        had, young_s = vips_of(homes, balancer), await self._unshared_s(balancer)
        window = self._open("balancer_kill", balancer, young_s)
        # The kernel of a machine forwards on when the daemon dies: this is the whole machine. Its
        # links first: the end of a process would be told to its peers by its kernel.
        cut(self.state.plan, balancer)
        kill_host(self.state, balancer)
        self.say(f"{balancer.name}: machine lost (links down, kill -9); it had {_listed(had)}")
        await self._taken_over(window)

    async def _return(self, balancer: Host, homes: Homes) -> None:
        window = self._open("balancer_return", balancer)
        heal(self.state.plan, balancer)
        start_host(self.state, balancer)
        self.say(f"{balancer.name}: plugged in and started again")
        await self._back(window, balancer, homes)

    async def _cut_off(self, balancer: Host, homes: Homes) -> None:
        had, young_s = vips_of(homes, balancer), await self._unshared_s(balancer)
        window = self._open("partition", balancer, young_s)
        cut(self.state.plan, balancer, silent=True)
        self.say(f"{balancer.name}: cut off from all, its links stay up; it had {_listed(had)}")
        await self._taken_over(window)

    async def _heal(self, balancer: Host, homes: Homes) -> None:
        window = self._open("heal", balancer)
        heal(self.state.plan, balancer)
        self.say(f"{balancer.name}: connected again")
        await self._back(window, balancer, homes)

    async def _taken_over(self, window: Window) -> None:
        """Wait until every VIP has answered a request that begins from now on."""
        since = time.monotonic()
        targets = [str(target) for target in targets_of(self.state.plan)]
        with trio.move_on_after(_TAKEOVER_TIMEOUT_S):
            if self.state.spec.has_router:
                await self._off_the_router(window.host)
                since = time.monotonic()
            while True:
                if min(map(self.tally.answered_since, targets)) >= since:
                    break
                await trio.sleep(_POLL_S)
            window.recovered = time.monotonic()
            after = window.recovered - window.start
            self.say(f"{window.host}: all VIPs answer without it after {after:.2f} s")
        window.end = time.monotonic()

    async def _off_the_router(self, balancer: str) -> None:
        """Wait until no route leads to a balancer; before that a part of the requests fails."""
        while True:
            held = await find_holders(self.state.plan)
            if not any(balancer in names for names in held.values()):
                return
            await trio.sleep(_POLL_S)

    async def _back(self, window: Window, balancer: Host, homes: Homes) -> None:
        """Wait until the group is whole, its tables are equal and the VIPs are where they were."""
        had = vips_of(homes, balancer)
        try:
            await wait_group(self.state, homes)
            window.recovered = time.monotonic()
            after = window.recovered - window.start
            self.say(f"{balancer.name}: has {_listed(had)} again after {after:.2f} s")
        except LabError as error:
            self.say(f"{balancer.name}: {error}")
        window.end = time.monotonic()

    async def _unshared_s(self, balancer: Host) -> float:
        """Return how old a balancer's flows have to be for the others to know them."""
        if self.state.spec.stateless:
            return 0.0
        found = [_UNSHARED_S]
        for other in self.state.plan.of(Role.BALANCER):
            if other is balancer:
                continue
            with contextlib.suppress(FetchError):  # who is too busy to answer says nothing
                told = (await peers(other))["peers"]
                found += [2 * (one["copy_behind_s"] or 0.0) for one in told]
        return max(found)

    def _open(self, event: str, host: Host, young_s: float = 0.0) -> Window:
        window = Window(event=event, host=host.name, start=time.monotonic(), young_s=young_s)
        self.tally.windows.append(window)
        return window


def _owner(homes: Homes, among: Sequence[Host]) -> Host:
    """Return the balancer with the most VIPs, the last of equal ones."""
    return max(reversed(among), key=lambda one: len(vips_of(homes, one)))


def _listed(vips: frozenset[str]) -> str:
    return ", ".join(sorted(vips)) or "no VIP"
