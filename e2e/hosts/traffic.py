# SPDX-License-Identifier: Apache-2.0
"""Requests from the client, and what became of them."""

from __future__ import annotations

import contextlib
import json
import math
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import attrs
import trio

from e2e.hosts.model import Client, HostsError
from galelb.lab.http_client import Target

__all__ = ["Answer", "Traffic", "ask", "traffic"]

RATE = 200.0
"""Requests a second."""
KEPT = 50
"""Connections that are kept open and used again and again."""

_KEPT_EVERY_S = 0.5
_TIMEOUT_S = 30.0
"""TCP's patience: what is lost is sent again after 0.2, 0.6, 1.4, 3, 6.2 and 12.6 seconds, a SYN
after 1, 3, 7 and 15."""
_FIRST_TIMEOUT_S = 60.0
_PROGRAM = Path(__file__).with_name("load.py")


@attrs.frozen(kw_only=True)
class Answer:
    """What became of a request."""

    kind: str
    """fresh = on a connection of its own; kept = on one that others had used."""
    target: Target
    node: str
    """What the answer says that it is from; empty when there was none."""
    error: str | None
    """None = success."""
    start: float
    """Monotonic clock of this process, whatever the client's is."""
    end: float


@attrs.define
class Traffic:
    """All answers so far; the list grows while the traffic runs."""

    answers: list[Answer] = attrs.Factory(list)
    unkept: set[str] = attrs.Factory(set)
    """Who closes connections after each answer, so that none of them can be kept."""

    def failures(self, since: float = 0.0) -> Counter[str]:
        """Count failures of requests that began since then, by kind and cause."""
        return Counter(
            f"{one.kind}: {one.error}" for one in self.answers if one.error and one.start >= since
        )

    def nodes(self, since: float = 0.0, until: float = math.inf) -> Counter[str]:
        """Count good answers of fresh requests that began within a time, by who answered."""
        return Counter(
            one.node
            for one in self.answers
            if one.error is None and one.kind == "fresh" and since <= one.start <= until
        )

    @property
    def kept(self) -> int:
        """How many good answers came over kept connections."""
        return sum(one.kind == "kept" and one.error is None for one in self.answers)

    async def until(self, what: str, holds: Callable[[], bool], timeout_s: float = 60.0) -> None:
        """Return once something holds of the answers. HostsError says what did not come true."""
        with trio.move_on_after(timeout_s):
            while not holds():
                await trio.sleep(0.05)
            return
        recent = self.answers[-5:]
        raise HostsError(f"not within {timeout_s:g} s: {what}; the last answers: {recent}")

    async def more(self, count: int, since: float | None = None) -> None:
        """Return once so many requests that begin from now on (or since then) are answered."""
        begin = time.monotonic() if since is None else since
        await self.until(f"{count} good answers", lambda: self.nodes(begin).total() >= count)

    def take(self, line: bytes) -> None:
        """Add what the program on the client printed."""
        facts, now = json.loads(line), time.monotonic()
        if facts["kind"] == "unkept":
            self.unkept.add(facts["node"])
            return
        took = facts.pop("took")
        target = Target(*facts.pop("target"))
        self.answers.append(Answer(**facts, target=target, start=now - took, end=now))


async def ask(client: Client, targets: Sequence[Target], count: int) -> Traffic:
    """Send so many requests, each on a connection of its own, and return the answers."""
    found = Traffic()
    await _run(client, found, _job(targets, rate=RATE, kept=0, count=count), trio.Event())
    return found


@contextlib.asynccontextmanager
async def traffic(
    client: Client, targets: Sequence[Target], *, rate: float = RATE, kept: int = KEPT
) -> AsyncIterator[Traffic]:
    """Have requests sent during a block of code, which begins when the first are answered."""
    found, stop = Traffic(), trio.Event()
    async with trio.open_nursery() as nursery:
        job = _job(targets, rate=rate, kept=kept, count=None)
        nursery.start_soon(_run, client, found, job, stop)
        await found.until(
            "first answers", lambda: len(found.answers) >= max(kept, 1), _FIRST_TIMEOUT_S
        )
        yield found
        stop.set()


def _job(targets: Sequence[Target], *, rate: float, kept: int, count: int | None) -> str:
    return json.dumps(
        {
            "targets": [[target.address, target.port] for target in targets],
            "path": "/",
            "rate": rate,
            "kept": kept,
            "kept_every": _KEPT_EVERY_S,
            "count": count,
            "timeout": _TIMEOUT_S,
        }
    )


async def _run(client: Client, found: Traffic, job: str, stop: trio.Event) -> None:
    argv = client.command(client.python, "-c", _PROGRAM.read_text(), job)
    process = await trio.lowlevel.open_process(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_close_on, stop, process)
            await _read(process, found)
            code = await process.wait()
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                await trio.aclose_forcefully(pipe)
    if code:
        raise HostsError(f"{client.name}: the program that sends requests failed: {code}")


async def _close_on(stop: trio.Event, process: trio.Process) -> None:
    await stop.wait()
    assert process.stdin is not None
    await process.stdin.aclose()


async def _read(process: trio.Process, found: Traffic) -> None:
    assert process.stdout is not None
    rest = b""
    while chunk := await process.stdout.receive_some(65536):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            found.take(line)
