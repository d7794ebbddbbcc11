# SPDX-License-Identifier: Apache-2.0
"""How fast balancers share connections: all of them to a joiner, and new ones as they come.

Method: two l4_nat data paths in one process, each with connection sharing as in the daemon, over
sealed TCP streams between two loopback addresses, in both directions. Packets through one of them
open flows. For new flows, processor time is that of the whole process (both sides), less what the
same packets cost before anything was shared. A result counts only if the other side took in every
flow that was opened. What is on one side alone is counted every 10 ms, as so many milliseconds of
new flows.
"""

from __future__ import annotations

import socket
import statistics
import sys
import time
from ipaddress import ip_address
from typing import Any

import structlog
import trio

from bench.figures import machine
from bench.flowtable_load import Load, load, refuse_unless
from galelb.flowshare import FlowShare
from galelb.group.keys import KeyRing
from galelb.group.sharing import FlowSharing
from galelb.testing.lives import OPEN

FLOWS = 100_000
"""Flows that a joiner gets."""
NEW_PER_S = 10_000
_ROOM = 1 << 18
_STEP_S = 0.02
_STEPS = 250
_LOOK_S = 0.01
_LEASE_S = 3600.0
_SETTLE_S = 2.0
_PATIENCE_S = 60.0
_PEER = "10.0.0.231"
_PATIENT = {"tcp_syn_timeout": 3600.0}
"""Flows that wait for their handshake do not expire meanwhile."""


class _Balancer:
    """One side: its data path, and what shares its flows."""

    def __init__(self, number: int, port: int, table: Load) -> None:
        share = table.forwarder.flow_share(table.runner, table.runner.world.host)
        assert share is not None
        share.permit(_LEASE_S, whole=True)
        self.share: FlowShare = share
        self.name = f"lb{number}"
        self.place = ip_address(f"127.0.0.{number}"), port
        self.changed = trio.Event()
        self.sharing = FlowSharing(
            name=self.name,
            address=self.place[0],
            port=port,
            keys=lambda: KeyRing({1: bytes(32)}, 1),
            shares=lambda: {"l4_nat": share},
            on_change=lambda: self.changed.set(),
        )

    def added(self) -> int:
        """Return how many flows came from the other side."""
        return sum(
            round(one.value)
            for one in self.sharing.metrics()
            if one.name == "galelb_shared_flows_total" and one.labels["result"] == "added"
        )


class _Packets:
    """Opens flows that were never there."""

    def __init__(self, table: Load) -> None:
        self._table = table
        self.opened = 0

    def open(self, count: int) -> None:
        (record,) = self._table.lead(OPEN, [(count, self.opened, count)])
        refuse_unless(record.ended == count, f"flows were not opened: {record}")
        self.opened += count

    async def come(self) -> float:
        """Open flows at a steady pace; return the cores that the process used meanwhile."""
        begun, used = trio.current_time(), time.process_time()
        for number in range(_STEPS):
            await trio.sleep_until(begun + number * _STEP_S)
            await trio.to_thread.run_sync(self.open, round(NEW_PER_S * _STEP_S))
        await trio.sleep_until(begun + _STEPS * _STEP_S)
        return (time.process_time() - used) / (trio.current_time() - begun)


def run() -> dict[str, Any]:
    """Measure both. Raises RefusedError when a flow is missing at the other side."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    peer_options = {"source_addresses": (ip_address(_PEER),)} | _PATIENT
    with load(4, _ROOM, **_PATIENT) as own, load(4, _ROOM, **peer_options) as peer:
        port = _free_port()
        a, b = _Balancer(1, port, own), _Balancer(2, port, peer)
        b.share.make_room(a.share.own())
        peer.runner.replan()
        found: dict[str, Any] = trio.run(_measure, a, b, _Packets(own))
    return {"machine": machine(), "flows": FLOWS, "new_per_s": NEW_PER_S} | found


async def _measure(a: _Balancer, b: _Balancer, packets: _Packets) -> dict[str, Any]:
    packets.open(FLOWS - round(NEW_PER_S * _STEP_S * _STEPS))
    alone = await packets.come()
    a.sharing.peers({b.name: b.place})
    b.sharing.peers({a.name: a.place})
    async with trio.open_nursery() as nursery:
        await nursery.start(a.sharing.run)
        used, joined_s = time.process_time(), await _join(b, nursery)
        cpu_s = time.process_time() - used
        joined = b.added()
        refuse_unless(joined == FLOWS, f"{joined} flows came to the joiner, not {FLOWS}")
        await trio.sleep(_SETTLE_S)
        lags: list[float] = []
        unshared: list[int] = []
        nursery.start_soon(_watch, a, b, packets, lags, unshared)
        shared = await packets.come()
        await _wait_for(b, packets.opened)
        nursery.cancel_scope.cancel()
    return {
        "join_s": round(joined_s, 2),
        "join_cpu_s": round(cpu_s, 2),
        "cores": round(shared - alone, 2),
        "cores_of_packets": round(alone, 2),
        "lag_s": round(max(lags), 2),
        "unshared_ms": [
            round(1000 * one / NEW_PER_S) for one in (statistics.median(unshared), max(unshared))
        ],
    }


async def _join(b: _Balancer, nursery: trio.Nursery) -> float:
    begun = trio.current_time()
    await nursery.start(b.sharing.run)
    with trio.move_on_after(_PATIENCE_S):
        while not b.sharing.complete:
            await b.changed.wait()
            b.changed = trio.Event()
    refuse_unless(b.sharing.complete, "the joiner did not get everything")
    return trio.current_time() - begun


async def _wait_for(b: _Balancer, flows: int) -> None:
    """Wait until so many flows have come."""
    with trio.move_on_after(_PATIENCE_S):
        while b.added() < flows:  # noqa: ASYNC110 - nothing tells of each batch
            await trio.sleep(_STEP_S)
    refuse_unless(b.added() == flows, f"{b.added()} flows came, not {flows}")


async def _watch(
    a: _Balancer, b: _Balancer, packets: _Packets, lags: list[float], unshared: list[int]
) -> None:
    while True:
        lags += a.sharing.lags.values()
        unshared.append(packets.opened - b.added())
        await trio.sleep(_LOOK_S)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def describe(result: dict[str, Any]) -> str:
    """Return the result as lines for people."""
    rows = (
        (f"all of {result['flows']:,} flows to a joiner, s", "join_s"),
        ("  processor time of that, both sides, s", "join_cpu_s"),
        (f"{result['new_per_s']:,} new flows/s, both sides, cores", "cores"),
        ("  cores that their packets took besides", "cores_of_packets"),
        ("  longest lag of the copy, s", "lag_s"),
    )
    lines = [f"  {text:48} {result[key]:8}" for text, key in rows]
    median, most = result["unshared_ms"]
    text = "age of the oldest flow on one side alone, ms"
    lines.append(f"  {text:48} {median:8} (most {most})")
    return "\n".join(lines)
