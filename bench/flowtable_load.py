# SPDX-License-Identifier: Apache-2.0
"""What threads do to l4_nat's flow table in the benchmark `flows`, and how long it takes."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from ipaddress import ip_address
from typing import Any

import attrs

from bench.machine import RefusedError
from galelb.datapath.sandbox import Sandbox
from galelb.forwarder import Forwarder
from galelb.model import Protocol, Service
from galelb.plugins import Plugins
from galelb.testing.contention import run_together
from galelb.testing.lives import Lives, Record
from galelb.testing.runner import PacketRunner
from galelb.testing.world import build_world

__all__ = ["Load", "Work", "load", "rate", "refuse_unless", "together"]

_VIPS = {4: "198.51.100.1", 6: "2001:db8:1::1"}
_SOURCES = {4: "10.0.0.201", 6: "fd00::201"}
"""The first of four: each has 64,512 ports on every node."""
_PORT = 80
_NODES = 10
_PIECE = 50_000
"""Packets of one call beside something else: some ten milliseconds."""
_GATE_S = 30.0

Work = Sequence[tuple[int, int, int]]
"""For each thread: how many lives, of which first flow on, of how many."""


def refuse_unless(good: bool, message: str) -> None:
    """Raise RefusedError with a message unless all is good."""
    if not good:
        raise RefusedError(message)


def rate(records: Sequence[Record]) -> float:
    """Return packets per second of threads that ran at the same time, by the kernel's clock.

    That stops for a thread that has to wait for a CPU, and before and after all of its packets.
    """
    return sum(1e9 / record.run_ns for record in records)


def together(records: Sequence[Record]) -> float:
    """Return the least share of the shorter one's time in which two threads ran at once.

    What both ran for, less the time that passed, they cannot have run one after the other.
    """
    ran = [record.run_ns * record.runs for record in records]
    passed = max(r.over_ns for r in records) - min(r.began_ns for r in records)
    return min(1.0, max(0.0, (sum(ran) - passed) / min(ran)))


@contextlib.contextmanager
def load(version: int, flows: int, **options: Any) -> Iterator[Load]:
    """Load l4_nat's programs for so many flows and no more; all is gone afterwards."""
    first = ip_address(_SOURCES[version])
    sources = tuple(first + number for number in range(4))
    wanted = {"max_flows": max(1 << 16, flows), "source_addresses": sources} | options
    service = Service(
        name="bench",
        vip=ip_address(_VIPS[version]),
        port=_PORT,
        protocol=Protocol.TCP,
        target_port=_PORT,
        forwarder="l4_nat",
    )
    kind = Plugins.discover().forwarder("l4_nat")
    with Sandbox() as sandbox:
        forwarder = kind(kind.Options(**wanted))
        world = build_world(sandbox, nodes=_NODES)
        with (
            PacketRunner(sandbox, world, [service], forwarder) as runner,
            Lives(runner, service, first) as lives,
        ):
            yield Load(runner, lives)


def _before_all_others(lane: int) -> None:
    """Give the calling thread a CPU at once for as long as it lives: on a busy machine, too.

    Some cgroups do not allow that; then `together` tells how much that is measured is worth.
    """
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpus[lane % len(cpus)]})
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


@attrs.frozen
class Load:
    """Programs that are loaded, and the lives that are led through them."""

    runner: PacketRunner
    lives: Lives

    @property
    def forwarder(self) -> Forwarder:
        """l4_nat."""
        return self.runner.forwarder

    def lead(self, script: Sequence[int], work: Work, *, at_random: bool = False) -> list[Record]:
        """Lead lives, each thread its own; return what became of them."""
        records: list[Record] = []
        gate = threading.Barrier(len(work), timeout=_GATE_S)

        def one(lane: int) -> None:
            _before_all_others(lane)
            gate.wait()
            lives, first, count = work[lane]
            records.append(
                self.lives.live(
                    script,
                    lives,
                    first=first,
                    count=count,
                    lane=lane,
                    at_random=at_random,
                    seed=lane,
                )
            )

        self._together([partial(one, lane) for lane in range(len(work))])
        return records

    def harness(self, flows: int, packets: int, threads: int) -> list[Record]:
        """Make and judge packets only: that is in all figures, and as much as CPUs can do."""
        self.lives.aim(None)
        records = self.lead((0,), [(packets, 0, flows)] * threads, at_random=True)
        self.lives.aim(self.runner.entry_fd)
        return records

    def beside(
        self, script: Sequence[int], flows: int, work: Callable[[], None]
    ) -> tuple[float, float]:
        """Send packets of flows at random until some work is done in another thread.

        Returns nanoseconds per packet, made and judged, and the seconds of the work.
        """
        over = threading.Event()
        found: list[int] = []
        took: list[float] = []

        def packets() -> None:
            _before_all_others(lane=0)
            for seed in itertools.takewhile(lambda _: not over.is_set(), itertools.count()):
                record = self.lives.live(
                    script, _PIECE, first=0, count=flows, at_random=True, seed=seed
                )
                found.append(record.run_ns)

        def other() -> None:
            began = time.perf_counter()
            try:
                work()
            finally:
                over.set()
            took.append(time.perf_counter() - began)

        self._together([packets, other])
        return sum(found) / len(found), took[0]

    def _together(self, works: Sequence[Callable[[], None]]) -> None:
        run_together(self.runner.sandbox, works)
