# SPDX-License-Identifier: Apache-2.0
"""The job of the load generator that holds connections open and sees whether they live.

Thousands of them have to fit into a part of one core, so a message is 16 bytes that the node
sends back, not a request.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import attrs
import trio

from galelb.lab.held import HeldConnection
from galelb.lab.http_client import FetchError, HttpConnection, Target
from galelb.lab.jobs import Held, Result
from galelb.lab.many import ManySockets
from galelb.lab.targets import TargetSet

__all__ = ["run_held"]

_OPENING_AT_ONCE = 50
"""The test is not a SYN flood."""
_SLOTS = 100
"""Into so many moments the messages of a period are spread."""
_LAST_LOOKS_S = 0.02
_LOOK_S = 0.25
"""How often to look for answers that are missing for too long."""

Report = Callable[[Result], None]


async def run_held(job: Held, report: Report, stop: trio.Event) -> None:
    """Open all connections, then use each now and then until the time is over or `stop` is set.

    Every connection is reported once, when it breaks or at the end; besides "opened" is, with
    their number as its size, when all are open.
    """
    with ManySockets() as sockets:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sockets.run)
            await _AllHeld(job, report, stop, sockets).run()
            nursery.cancel_scope.cancel()


@attrs.define
class _Open:
    """An open connection and what its report needs."""

    start: float
    target: Target
    node: str
    held: HeldConnection
    close: Callable[[], None]


class _AllHeld:
    """The connections of one job."""

    def __init__(self, job: Held, report: Report, stop: trio.Event, sockets: ManySockets) -> None:
        self._job = job
        self._report = report
        self._stop = stop
        self._sockets = sockets
        self._targets = TargetSet(job.targets)
        self._open: dict[int, _Open] = {}
        self._holding = trio.CancelScope()

    async def run(self) -> None:
        """Hold connections and report every one of them."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._use_all)
            nursery.start_soon(self._watch)
            await self._open_all()
            self._report(_opened(len(self._open)))
            with trio.move_on_after(self._job.duration_s) as self._holding:
                if self._open:
                    await self._stop.wait()
            nursery.cancel_scope.cancel()
        # What is lost at the very end is lost too.
        await self._last_answers()
        for number in list(self._open):
            self._end(number)

    async def _last_answers(self) -> None:
        while True:
            self._expire_overdue()
            if not any(one.held.waits for one in self._open.values()):
                return
            await trio.sleep(_LAST_LOOKS_S)

    async def _open_all(self) -> None:
        limit = trio.CapacityLimiter(_OPENING_AT_ONCE)
        async with trio.open_nursery() as nursery:
            for number in range(self._job.connections):
                nursery.start_soon(self._open_one, number, limit)

    async def _open_one(self, number: int, limit: trio.CapacityLimiter) -> None:
        target = self._targets.next()
        async with limit:
            if self._stop.is_set():
                return
            start, connection = time.monotonic(), None
            try:
                connection = await HttpConnection.open(target, self._job.read_timeout_s)
                await connection.open_echo(self._job.read_timeout_s)
            except FetchError as failure:
                if connection is not None:
                    await connection.aclose()
                self._report(_failed(start, target, failure.cause))
                return
            sock = connection.detach()
            held = HeldConnection(number, sock)
            close = partial(self._sockets.close, sock)
            self._open[number] = _Open(start, target, connection.node, held, close)
            self._sockets.add(sock, partial(self._receive, number))

    async def _use_all(self) -> None:
        moment, slot = trio.current_time(), 0
        while True:
            for number in range(slot, self._job.connections, _SLOTS):
                if number in self._open:
                    self._open[number].held.send(time.monotonic())
            slot = (slot + 1) % _SLOTS
            moment += self._job.every_s / _SLOTS
            await trio.sleep_until(moment)

    def _receive(self, number: int, data: bytes | OSError) -> None:
        held = self._open[number].held
        held.receive(data)
        if held.error is not None:
            self._end(number)

    async def _watch(self) -> None:
        while True:
            await trio.sleep(_LOOK_S)
            self._expire_overdue()

    def _expire_overdue(self) -> None:
        now = time.monotonic()
        for number, one in list(self._open.items()):
            one.held.expire(now, self._job.read_timeout_s)
            if one.held.error is not None:
                self._end(number)

    def _end(self, number: int) -> None:
        one, now = self._open.pop(number), time.monotonic()
        one.close()
        if not self._open:
            self._holding.cancel()
        self._report(
            Result(
                kind="held",
                start=one.start,
                end=now,
                target=str(one.target),
                node=one.node,
                error=one.held.error,
                size=one.held.size,
                stall_s=round(one.held.stall_s(now), 4),
            )
        )


def _failed(start: float, target: Target, cause: str) -> Result:
    return Result(kind="held", start=start, end=time.monotonic(), target=str(target), error=cause)


def _opened(count: int) -> Result:
    now = time.monotonic()
    return Result(kind="opened", start=now, end=now, target="", size=count)
