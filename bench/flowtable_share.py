# SPDX-License-Identifier: Apache-2.0
"""What it costs to share l4_nat's flows: to find what is new, and to take in what a peer tells.

Two data paths in one process. `changes()` is measured with nothing new, with 5,000 and with 100,000
new flows beside those that are open; a peer takes in the 100,000, which counts only if all were
added and none was told of again.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any

from bench.figures import spread
from bench.flowtable_load import Load, load, refuse_unless
from galelb.flowshare import FlowShare
from galelb.testing.lives import OPEN

__all__ = ["SHARED", "share"]

SHARED = 100_000
"""Flows that a peer takes in."""
_FEW = 5_000
_ROUNDS = 2
_QUIET = 10
_PEER = {4: "10.0.0.231", 6: "fd00::231"}
_MOST_REFUSED = 0.001


def share(version: int, flows: int, **options: Any) -> dict[str, Any]:
    """Return milliseconds by what was done, and flows per second; `flows`: room in the tables."""
    peer_options = options | {"source_addresses": (ip_address(_PEER[version]),)}
    with load(version, flows, **options) as own, load(version, flows, **peer_options) as peer:
        ours, theirs = _share_of(own), _share_of(peer)
        theirs.make_room(ours.own())
        peer.runner.replan()
        found = _measure(own, ours, theirs)
    rates = [SHARED / one for one in found["accept"]]
    times = {f"{name}_ms": spread([1000 * one for one in took]) for name, took in found.items()}
    return times | {"accepted_per_s": spread(rates, 0)}


def _measure(own: Load, ours: FlowShare, theirs: FlowShare) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {"few": [], "nothing": [], "many": [], "accept": []}
    numbers = itertools.count()
    for _ in range(_ROUNDS):
        _open(own, numbers, SHARED)
        took, batches = _took(ours.changes)
        found["many"].append(took)
        took, told = _took(lambda batches=batches: [theirs.accept(one) for one in batches])
        found["accept"].append(took)
        added = sum(one.added for one in told)
        refuse_unless(added >= (1 - _MOST_REFUSED) * SHARED, f"only {added} flows were taken in")
    refuse_unless(theirs.changes() == [], "flows were told back to who told of them")
    for _ in range(_ROUNDS):
        _open(own, numbers, _FEW)
        found["few"].append(_took(ours.changes)[0])
    found["nothing"] += [_took(ours.changes)[0] for _ in range(_QUIET)]
    return found


def _share_of(table: Load) -> FlowShare:
    found = table.forwarder.flow_share(table.runner, table.runner.world.host)
    assert found is not None
    found.permit(None, whole=True)
    return found


def _open(table: Load, numbers: Iterator[int], count: int) -> None:
    """Open flows that were never there."""
    (record,) = table.lead(OPEN, [(count, next(numbers) * SHARED, count)])
    opened = record.ended >= (1 - _MOST_REFUSED) * count
    refuse_unless(opened, f"flows were not opened: {record}")


def _took(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result
