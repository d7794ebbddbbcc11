# SPDX-License-Identifier: Apache-2.0
"""Runs the load generator inside a client's namespace and hands on its results."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Callable

import trio

from galelb.errors import LabError
from galelb.lab.hosts import Host
from galelb.lab.jobs import Held, Job, Result, jobs_to_json
from galelb.lab.processes import tail
from galelb.lab.topology import nsenter

__all__ = ["background_load", "collect", "run_load"]

_MAX_LINE = 65536


async def run_load(
    client: Host, jobs: list[Job], report: Callable[[Result], None], stop: trio.Event
) -> None:
    """Run jobs as this client until they are done; `stop` ends them after running requests.

    Cancelled, it kills the generator. LabError when the generator itself fails.
    """
    argv = [sys.executable, "-m", "galelb.lab.load", jobs_to_json(jobs)]
    with client.log.open("ab") as log:
        process = await trio.lowlevel.open_process(
            nsenter(client.namespace, argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_close_on, stop, process)
            await _read(process, report)
            code = await process.wait()
            nursery.cancel_scope.cancel()
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            await _close_pipes(process)
    if code:
        raise LabError(f"{client.name}: the load generator failed:\n{tail(client.log)}")


@contextlib.asynccontextmanager
async def background_load(client: Host, jobs: list[Job]) -> AsyncIterator[list[Result]]:
    """Run jobs as this client during a block of code, which gets the results as they come.

    It begins when all connections to be held are open; at its end the jobs are stopped, and the
    list is complete afterwards.
    """
    results: list[Result] = []
    opened, stop = trio.Event(), trio.Event()

    def take(result: Result) -> None:
        if result.kind == "opened":
            opened.set()
        else:
            results.append(result)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_load, client, jobs, take, stop)
        if any(isinstance(job, Held) for job in jobs):
            await opened.wait()
        yield results
        stop.set()


async def collect(client: Host, jobs: list[Job]) -> list[Result]:
    """Run jobs to their end and return all results."""
    results: list[Result] = []
    await run_load(client, jobs, results.append, trio.Event())
    return results


async def _close_on(stop: trio.Event, process: trio.Process) -> None:
    await stop.wait()
    if process.stdin is not None:
        await process.stdin.aclose()


async def _read(process: trio.Process, report: Callable[[Result], None]) -> None:
    assert process.stdout is not None
    rest = b""
    while chunk := await process.stdout.receive_some(_MAX_LINE):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            report(Result.from_json(line))


async def _close_pipes(process: trio.Process) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            await trio.aclose_forcefully(pipe)
