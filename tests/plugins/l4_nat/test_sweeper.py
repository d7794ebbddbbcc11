# SPDX-License-Identifier: Apache-2.0
"""The sweep walks all tables, a bounded piece each second, and outlives failures."""

from __future__ import annotations

import struct

import pytest
import trio
from galelb_plugins.l4_nat.sweep import RUN, current_tick
from galelb_plugins.l4_nat.sweeper import BITE, Sweeper
from structlog.testing import capture_logs

from galelb.errors import BpfError

TICK = 77
STEP = BITE * RUN


class FakePath:
    """A data path whose tables have `entries` entries; each bite sees some of every kind."""

    def __init__(self, entries: int, names: tuple[str, ...] = ("flows4", "ports6")) -> None:
        self.maps = {f"l4_nat_{name}": None for name in names}
        self.entries = entries
        self.asked: list[tuple[int, int, int]] = []
        self.verdict = 0

    def run_program(self, function: str, data: bytes = b"", *, repeat: int = 1):
        what, version, first = struct.unpack_from("=3I", data)
        self.asked.append((what, version, first))
        after = min(first + repeat * RUN, max(self.entries, first))
        counts = (100, 10, 5, 0, 1, 2, 3, 4, 6)
        return self.verdict, struct.pack("=16I", what, version, after, TICK, *counts, 0, 0, 0)


def sweeper(path: FakePath, step: float = 0.0) -> Sweeper:
    """A sweeper on whose clock each reading takes `step` seconds."""
    times = iter(range(1 << 30))
    return Sweeper(path, clock=lambda: next(times) * step, in_thread=at_once)


async def at_once(function) -> None:
    function()
    await trio.lowlevel.checkpoint()


def values(metrics) -> dict[str, float]:
    return {":".join([m.name, *m.labels.values()]): m.value for m in metrics}


def test_a_walk_covers_all_tables_to_their_ends() -> None:
    path = FakePath(2 * STEP + 4)
    one = sweeper(path)

    one.sweep_some()

    assert [(what, version, n * STEP) for what, version in ((0, 4), (1, 6)) for n in range(3)] == (
        path.asked
    )


def test_a_table_of_whole_bites_ends_with_an_empty_one() -> None:
    path = FakePath(STEP, names=("flows4",))
    one = sweeper(path)

    one.sweep_some()

    assert [(0, 4, 0), (0, 4, STEP)] == path.asked


def test_a_period_does_no_more_than_its_budget_and_the_next_goes_on() -> None:
    path = FakePath(100 * STEP)
    one = sweeper(path, step=0.02)

    one.sweep_some()
    first = list(path.asked)
    one.sweep_some()

    assert 1 <= len(first) <= 3
    assert first[-1][2] + STEP == path.asked[len(first)][2]


def test_metrics_are_those_of_the_last_whole_walk() -> None:
    one = sweeper(FakePath(STEP - 1))
    before = values(one.metrics())

    one.sweep_some()

    after = values(one.metrics())
    assert {"galelb_l4_nat_sweeps_total": 0, "galelb_l4_nat_expired_total": 0} == before
    assert {
        "galelb_l4_nat_flows:ipv4:half_open": 2,
        "galelb_l4_nat_flows:ipv4:established": 1,
        "galelb_l4_nat_flows:ipv4:closing": 3,
        "galelb_l4_nat_flows:ipv4:udp": 4,
        "galelb_l4_nat_ports_in_use:ipv6": 10,
        "galelb_l4_nat_ports_quarantined:ipv6": 6,
        "galelb_l4_nat_expired_total": 5,
        "galelb_l4_nat_sweeps_total": 1,
    } == after
    assert one.flow_count() == 10


def test_a_program_that_fails_is_an_error() -> None:
    path = FakePath(STEP)
    path.verdict = 1

    with pytest.raises(BpfError, match=r"l4_nat_sweep of IPv4 flows .* answered 1"):
        current_tick(path)


def test_the_tick_is_asked_for_without_sweeping() -> None:
    path = FakePath(STEP)

    assert TICK == current_tick(path)
    assert [(0, 4, 0xFFFFFFFF)] == path.asked


async def test_it_sweeps_every_second_until_cancelled(autojump_clock) -> None:
    path = FakePath(1)
    one = sweeper(path)

    async with trio.open_nursery() as nursery:
        await nursery.start(one.run)
        await trio.sleep(10.5)
        nursery.cancel_scope.cancel()

    assert 20 == len(path.asked)


async def test_a_failure_is_logged_once_and_tried_again(autojump_clock) -> None:
    path = FakePath(1)
    path.verdict = 1
    one = sweeper(path)

    with capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            await nursery.start(one.run)
            await trio.sleep(10.5)
            path.verdict = 0
            await trio.sleep(10)
            nursery.cancel_scope.cancel()

    assert ["flow_sweep_failed"] == [entry["event"] for entry in logs]
    assert 0 < values(one.metrics())["galelb_l4_nat_sweeps_total"]
