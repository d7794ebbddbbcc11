# SPDX-License-Identifier: Apache-2.0
"""One thread for everything that asks the kernel and waits, so that trio never does.

A thread of its own, not trio's cached workers: a thread stays in the network namespace of its
creator, and cached ones may have been made by somebody who was elsewhere.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

import trio
from pyroute2 import IPRoute

__all__ = ["NetlinkThread"]

T = TypeVar("T")

_BATCH = 64
"""Requests per IPRoute. It leaks a little per request for a single object; closing it helps."""
_WAITING = 64
"""Requests that may be queued or running; more callers wait in trio."""
_STOP_S = 5.0


class _Job(Generic[T]):
    def __init__(self, work: Callable[[IPRoute], T]) -> None:
        self.work = work
        self.done = trio.Event()
        self.abandoned = False
        self.value: T | None = None
        self.error: Exception | None = None

    def run(self, ipr: IPRoute) -> None:
        if self.abandoned:
            return
        try:
            self.value = self.work(ipr)
        except Exception as error:  # handed to the caller, who waits for it
            self.error = error


class NetlinkThread:
    """Runs functions that take an IPRoute, one after another."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self._room = trio.CapacityLimiter(_WAITING)
        self._stopped = trio.Event()
        self._token = trio.lowlevel.current_trio_token()
        self._closing = False
        self._thread = threading.Thread(target=self._main, name="gale-netlink", daemon=True)
        self._thread.start()

    async def run(self, work: Callable[[IPRoute], T]) -> T:
        """Return what `work(ipr)` returns; its exceptions come here.

        When cancelled, work that has not begun is dropped; work that has, goes on alone.
        Raises trio.ClosedResourceError after `aclose`.
        """
        async with self._room:
            if self._closing:
                raise trio.ClosedResourceError
            job = _Job(work)
            self._jobs.put(job)
            try:
                await job.done.wait()
            except BaseException:
                job.abandoned = True
                raise
        if job.error is not None:
            raise job.error
        return cast(T, job.value)

    async def aclose(self) -> None:
        """End the thread after what is queued; bounded, and never cancelled halfway."""
        if not self._closing:
            self._closing = True
            self._jobs.put(None)
        with trio.move_on_after(_STOP_S, shield=True):
            await self._stopped.wait()

    def _main(self) -> None:
        while (job := self._jobs.get()) is not None:
            batch = [job, *self._queued(_BATCH - 1)]
            self._do(batch)
        self._wake(self._stopped)

    def _queued(self, most: int) -> list[_Job[Any]]:
        """Return jobs that wait already; the end marker stays for `_main`."""
        jobs: list[_Job[Any]] = []
        with contextlib.suppress(queue.Empty):
            while len(jobs) < most:
                job = self._jobs.get_nowait()
                if job is None:
                    self._jobs.put(None)
                    break
                jobs.append(job)
        return jobs

    def _do(self, batch: list[_Job[Any]]) -> None:
        try:
            with IPRoute() as ipr:
                for job in batch:
                    job.run(ipr)
                    self._wake(job.done)
        except Exception as error:  # no socket: all who wait must hear of it
            for job in batch:
                job.error = job.error or error
                self._wake(job.done)

    def _wake(self, event: trio.Event) -> None:
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(event.set)
