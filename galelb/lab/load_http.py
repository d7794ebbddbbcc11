# SPDX-License-Identifier: Apache-2.0
"""The HTTP jobs of the load generator: requests and downloads."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import trio

from galelb.lab import payload
from galelb.lab.http_client import FetchError, HttpConnection, Target
from galelb.lab.jobs import Downloads, Requests, Result
from galelb.lab.targets import TargetSet

__all__ = ["run_downloads", "run_requests"]

_PROBE_EVERY_S = 0.25
_PROBE_TIMEOUT_S = 0.5

Report = Callable[[Result], None]


class _Budget:
    """Counts down how many are still to be done; endless without a count."""

    def __init__(self, count: int | None, stop: trio.Event) -> None:
        self._left = count
        self._stop = stop

    def take(self) -> bool:
        """Whether another one is to be started."""
        if self._stop.is_set() or self._left == 0:
            return False
        if self._left is not None:
            self._left -= 1
        return True


async def run_requests(job: Requests, report: Report, stop: trio.Event) -> None:
    """Send requests until `count` is reached or `stop` is set."""
    targets, budget = TargetSet(job.targets), _Budget(job.count, stop)
    payload.digest(job.size)
    async with trio.open_nursery() as prober:
        prober.start_soon(_probe_dead, targets)
        async with trio.open_nursery() as workers:
            for _ in range(job.fresh):
                workers.start_soon(_fresh_worker, job, targets, budget, report)
            for _ in range(job.kept):
                workers.start_soon(_kept_worker, job, targets, budget, report)
        prober.cancel_scope.cancel()


async def _fresh_worker(job: Requests, targets: TargetSet, budget: _Budget, report: Report) -> None:
    while budget.take():
        attempt = _Attempt("request", targets.next(), targets)
        with attempt.reported(report):
            try:
                await attempt.connect(job.connect_timeout_s)
                await attempt.get(f"/bytes/{job.size}", job.size, job.read_timeout_s)
            finally:
                await attempt.close()
        await trio.sleep(job.pause_s)


async def _kept_worker(job: Requests, targets: TargetSet, budget: _Budget, report: Report) -> None:
    connection: HttpConnection | None = None
    target = targets.next()
    pause_s = job.pause_s if job.kept_pause_s is None else job.kept_pause_s
    while budget.take():
        if connection is None:
            target = targets.next()
        attempt = _Attempt("request", target, targets, connection)
        with attempt.reported(report):
            if connection is None:
                await attempt.connect(job.connect_timeout_s)
            else:
                # Resting is part of the request: a connection that dies meanwhile fails then,
                # not when somebody looks.
                await connection.rest(pause_s)
            await attempt.get(f"/bytes/{job.size}", job.size, job.read_timeout_s)
        if attempt.failed:
            await attempt.close()
        connection = None if attempt.failed else attempt.connection
        if connection is None:
            await trio.sleep(job.pause_s)
    if connection is not None:
        await connection.aclose()


async def run_downloads(job: Downloads, report: Report, stop: trio.Event) -> None:
    """Download until `count` is reached; a stop ends running downloads, which then count not."""
    targets, budget = TargetSet(job.targets), _Budget(job.count, stop)
    await trio.to_thread.run_sync(payload.digest, job.size)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_on, stop, nursery.cancel_scope)
        async with trio.open_nursery() as workers:
            for _ in range(job.parallel):
                workers.start_soon(_download_worker, job, targets, budget, report)
        nursery.cancel_scope.cancel()


async def _download_worker(
    job: Downloads, targets: TargetSet, budget: _Budget, report: Report
) -> None:
    path = f"/slow?bytes={job.size}&rate={job.rate}" if job.rate else f"/bytes/{job.size}"
    while budget.take():
        attempt = _Attempt("download", targets.next(), targets)
        with attempt.reported(report):
            try:
                await attempt.connect(job.connect_timeout_s)
                await attempt.get(path, job.size, job.read_timeout_s)
            finally:
                await attempt.close()
        if attempt.failed:
            await trio.sleep(0.1)


class _Attempt:
    """One request, download or held connection, from its start to its line of output."""

    def __init__(
        self,
        kind: str,
        target: Target,
        targets: TargetSet,
        connection: HttpConnection | None = None,
    ) -> None:
        self._kind = kind
        self._target = target
        self._targets = targets
        self._size = 0
        self._seen_as_itself: bool | None = None
        self.connection = connection
        self.failed = False

    async def connect(self, timeout_s: float) -> None:
        self.connection = await HttpConnection.open(self._target, timeout_s)

    async def get(self, path: str, size: int, timeout_s: float) -> None:
        assert self.connection is not None
        known = self.connection.node
        response = await self.connection.get_verified(path, size, timeout_s)
        self._seen_as_itself = self.connection.seen_as_itself
        if known and response.node != known:
            raise FetchError("other_node", f"{known} became {response.node}")
        self._size += response.size

    async def close(self) -> None:
        if self.connection is not None:
            await self.connection.aclose()

    @contextlib.contextmanager
    def reported(self, report: Report) -> Iterator[None]:
        """Report how it ended; a cancelled attempt is not reported."""
        start, error = time.monotonic(), None
        try:
            yield
        except FetchError as failure:
            self.failed, error = True, failure.cause
            self._targets.failed(self._target, failure.cause)
        node = self.connection.node if self.connection else ""
        report(
            Result(
                kind=self._kind,
                start=start,
                end=time.monotonic(),
                target=str(self._target),
                node=node,
                error=error,
                size=self._size,
                seen_as_itself=self._seen_as_itself,
            )
        )


async def _probe_dead(targets: TargetSet) -> None:
    while True:
        await trio.sleep(_PROBE_EVERY_S)
        for target in targets.dead:
            with contextlib.suppress(FetchError):
                connection = await HttpConnection.open(target, _PROBE_TIMEOUT_S)
                await connection.aclose()
                targets.alive(target)


async def _cancel_on(stop: trio.Event, scope: trio.CancelScope) -> None:
    await stop.wait()
    scope.cancel()
