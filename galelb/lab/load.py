# SPDX-License-Identifier: Apache-2.0
"""The load generator: runs inside a client's namespace and prints one JSON line per result.

It ends when its jobs are done or its standard input closes, so it never outlives its parent.
Nothing is retried silently: every failure is a line with its cause.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import trio

from galelb.lab.files import allow_many_files
from galelb.lab.jobs import Downloads, Held, Job, Queries, Requests, Result, jobs_from_json
from galelb.lab.load_held import run_held
from galelb.lab.load_http import run_downloads, run_requests
from galelb.lab.load_udp import run_queries

__all__ = ["main", "run_jobs"]

_FINISH_S = 5.5
"""How long running requests may take to finish after a stop."""

Report = Callable[[Result], None]


async def run_jobs(jobs: Sequence[Job], report: Report, stop: trio.Event) -> None:
    """Run jobs beside each other until they are done or `stop` is set."""
    async with trio.open_nursery() as nursery:
        for job in jobs:
            nursery.start_soon(_run, job, report, stop)


async def _run(job: Job, report: Report, stop: trio.Event) -> None:
    match job:
        case Requests():
            await run_requests(job, report, stop)
        case Downloads():
            await run_downloads(job, report, stop)
        case Held():
            await run_held(job, report, stop)
        case Queries():
            await run_queries(job, report, stop)


def main() -> None:
    """Run the jobs given as JSON in the first argument."""
    allow_many_files()
    trio.run(_main, jobs_from_json(sys.argv[1]))


async def _main(jobs: list[Job]) -> None:
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_stop_at_end_of_input, stop, nursery.cancel_scope)
        await run_jobs(jobs, _print, stop)
        nursery.cancel_scope.cancel()


async def _stop_at_end_of_input(stop: trio.Event, scope: trio.CancelScope) -> None:
    async with trio.lowlevel.FdStream(0) as stdin:
        while await stdin.receive_some(4096):
            pass
        stop.set()
        await trio.sleep(_FINISH_S)
        scope.cancel()


def _print(result: Result) -> None:
    # One write per line, so that the parent never waits for a buffer to fill.
    sys.stdout.write(result.to_json() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
