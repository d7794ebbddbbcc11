# SPDX-License-Identifier: Apache-2.0
"""The UDP job of the load generator: queries whose answers are matched and checked."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address

import trio

from galelb.lab.http_client import Target
from galelb.lab.jobs import Queries, Result
from galelb.lab.udp_server import MAX_DATAGRAM

__all__ = ["run_queries"]

Report = Callable[[Result], None]


async def run_queries(job: Queries, report: Report, stop: trio.Event) -> None:
    """Send `count` queries, each once, from `parallel` sockets at a time."""
    numbers = iter(range(job.count))
    async with trio.open_nursery() as nursery:
        for _ in range(job.parallel):
            nursery.start_soon(_worker, job, numbers, report, stop)


async def _worker(job: Queries, numbers: Iterator[int], report: Report, stop: trio.Event) -> None:
    for number in numbers:
        if stop.is_set():
            return
        target = job.targets[number % len(job.targets)]
        start = time.monotonic()
        node, error = await _query(target, f"query-{number}", job.timeout_s)
        result = Result(
            kind="query",
            start=start,
            end=time.monotonic(),
            target=str(target),
            node=node,
            error=error,
        )
        report(result)


async def _query(target: Target, query: str, timeout_s: float) -> tuple[str, str | None]:
    """Return (who answered, None), or (who answered or nobody, the cause of the failure)."""
    version6 = ip_address(target.address).version == 6
    family = trio.socket.AF_INET6 if version6 else trio.socket.AF_INET
    with trio.socket.socket(family, trio.socket.SOCK_DGRAM) as sock:
        try:
            with trio.fail_after(timeout_s):
                # A connected socket takes answers from the VIP alone: a source address that
                # was not translated back shows as a time-out.
                await sock.connect((target.address, target.port))
                await sock.send(query.encode())
                data = await sock.recv(MAX_DATAGRAM)
        except trio.TooSlowError:
            return "", "no_answer"
        except OSError as failure:
            return "", "refused" if isinstance(failure, ConnectionRefusedError) else "unreachable"
    try:
        answer = json.loads(data)
        return answer["node"], None if answer["id"] == query else "bad_content"
    except (ValueError, KeyError, TypeError):
        return "", "bad_content"
