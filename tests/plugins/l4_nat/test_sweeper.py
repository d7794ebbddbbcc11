# SPDX-License-Identifier: Apache-2.0
"""The sweep walks all tables, a bounded piece each second, and outlives failures."""

from __future__ import annotations

import struct

import pytest
import trio
from galelb_plugins.l4_nat.sweep import current_tick
from galelb_plugins.l4_nat.sweeper import BITE, Sweeper
from structlog.testing import capture_logs

from galelb.errors import BpfError

TICK = 77


class FakePath:
    """A data path whose tables have `buckets` buckets and one of each flow per bite."""

    def __init__(self, buckets: int, versions: tuple[int, ...] = (4, 6)) -> None:
        self.maps = {f"l4_nat_flows{version}": None for version in versions}
        self.buckets = buckets
        self.asked: list[tuple[int, int, int]] = []
        self.verdict = 2

    def run_program(self, function: str, data: bytes = b"", *, repeat: int = 1):
        version, first, count = struct.unpack_from("=3I", data)
        self.asked.append((version, first, count))
        after = first + count
        following = after if after < self.buckets else 0
        return self.verdict, struct.pack(
            "=10I", version, first, count, TICK, following, 1, 2, 3, 4, 5
        )


def sweeper(path: FakePath, step: float = 0.0) -> Sweeper:
    """A sweeper on whose clock each reading takes `step` seconds."""
    times = iter(range(1 << 30))
    return Sweeper(path, clock=lambda: next(times) * step, in_thread=at_once)


async def at_once(function) -> None:
    function()
    await trio.lowlevel.checkpoint()


def values(metrics) -> dict[str, float]:
    return {":".join([m.name, *m.labels.values()]): m.value for m in metrics}


def test_a_walk_covers_all_buckets_of_both_families() -> None:
    path = FakePath(3 * BITE)
    one = sweeper(path)

    one.sweep_some()

    assert [(v, n * BITE, BITE) for v in (4, 6) for n in range(3)] == path.asked


def test_a_family_without_a_table_is_left_out() -> None:
    path = FakePath(BITE, versions=(4,))
    one = sweeper(path)

    one.sweep_some()

    assert [(4, 0, BITE)] == path.asked


def test_a_period_does_no_more_than_its_budget_and_the_next_goes_on() -> None:
    path = FakePath(100 * BITE)
    one = sweeper(path, step=0.02)

    one.sweep_some()
    first = list(path.asked)
    one.sweep_some()

    assert 1 <= len(first) <= 3
    assert first[-1][1] + BITE == path.asked[len(first)][1]


def test_metrics_are_those_of_the_last_whole_walk() -> None:
    one = sweeper(FakePath(2 * BITE))
    before = values(one.metrics())

    one.sweep_some()

    after = values(one.metrics())
    assert {"galelb_l4_nat_sweeps_total": 0, "galelb_l4_nat_expired_total": 0} == before
    assert 4 == after["galelb_l4_nat_flows:ipv4:established"]
    assert 20 == after["galelb_l4_nat_expired_total"]
    assert 1 == after["galelb_l4_nat_sweeps_total"]


def test_a_program_that_fails_is_an_error() -> None:
    path = FakePath(BITE)
    path.verdict = 0

    with pytest.raises(BpfError, match="l4_nat_sweep of IPv4 from bucket 0 returned 0"):
        current_tick(path)


def test_the_tick_is_asked_for_without_sweeping() -> None:
    path = FakePath(BITE)

    assert TICK == current_tick(path)
    assert [(4, 0, 0)] == path.asked


async def test_it_sweeps_every_second_until_cancelled(autojump_clock) -> None:
    path = FakePath(BITE)
    one = sweeper(path)

    async with trio.open_nursery() as nursery:
        await nursery.start(one.run)
        await trio.sleep(10.5)
        nursery.cancel_scope.cancel()

    assert 20 == len(path.asked)


async def test_a_failure_is_logged_once_and_tried_again(autojump_clock) -> None:
    path = FakePath(BITE)
    path.verdict = 0
    one = sweeper(path)

    with capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            await nursery.start(one.run)
            await trio.sleep(10.5)
            path.verdict = 2
            await trio.sleep(10)
            nursery.cancel_scope.cancel()

    assert ["flow_sweep_failed"] == [entry["event"] for entry in logs]
    assert 0 < values(one.metrics())["galelb_l4_nat_sweeps_total"]
