# SPDX-License-Identifier: Apache-2.0
"""Shares of a weight by themselves: slow start and load, in virtual time."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galelb.health.weights import (
    BUSY,
    IDLE,
    LEVELS,
    SETTLE_S,
    LoadShare,
    MeanLoad,
    SlowStart,
    coarse,
)


def started(duration=19.0, now=100.0):
    start = SlowStart()
    start.begin(now, slowly=True)
    return start, duration


def run(start, duration, until):
    """Take every step until then; returns (time, share) of each."""
    steps = []
    while (due := start.due(duration)) is not None and due <= until:
        start.grow(due, duration)
        steps.append((due, start.share))
    return steps


class TestSlowStart:
    def test_it_grows_from_little_to_everything_over_its_duration(self):
        start, duration = started()
        assert start.share == 5

        steps = run(start, duration, math.inf)

        assert [share for _, share in steps] == list(range(10, 101, 5))
        assert steps[0] == (101.0, 10)
        assert steps[-1] == (119.0, 100)

    def test_a_service_without_state_sees_five_tables(self):
        start, duration = started()

        shares = [coarse(share) for share in (5, *(s for _, s in run(start, duration, math.inf)))]

        assert list(dict.fromkeys(shares)) == [20, 40, 60, 80, 100]
        assert all(
            large <= max(fine, 20) for large, fine in zip(shares, range(5, 101, 5), strict=True)
        )

    def test_it_begins_once_until_the_node_is_without_flows_again(self):
        start, duration = started(now=0.0)
        run(start, duration, 10.0)

        start.begin(10.0, slowly=True)
        assert start.share == 55

        start.reset()
        start.begin(20.0, slowly=True)
        assert (start.share, start.due(duration)) == (5, 21.0)

    def test_without_it_all_of_the_share_comes_at_once(self):
        start = SlowStart()

        start.begin(0.0, slowly=False)

        assert (start.share, start.due(30.0)) == (100, None)

    def test_the_operator_can_end_it(self):
        start, duration = started()

        start.finish()

        assert (start.share, start.due(duration)) == (100, None)

    def test_a_duration_of_none_after_a_reload_ends_it_soon(self):
        start, _ = started()

        run(start, 0.0, 100.0)

        assert start.share == 100

    @given(st.floats(0.001, 1e5), st.floats(0, 1e9))
    def test_every_step_comes_after_the_one_before(self, duration, now):
        start = SlowStart()
        start.begin(now, slowly=True)

        steps = run(start, duration, math.inf)

        assert len(steps) == 19
        assert sorted(steps) == steps


def busy(seconds, load, share=None, start=0.0):
    """A share after a load for so long, one report a second."""
    share = share or LoadShare()
    levels = []
    for step in range(int(seconds)):
        share.hear(load, start + step)
        levels.append(share.share)
    return share, levels


def together(loads, seconds, settled=0.0):
    """Nodes that share traffic: the levels of each since `settled`.

    `loads` tell what load a node has with this part of what it gets when all are equal.
    """
    nodes = [LoadShare() for _ in loads]
    mean = MeanLoad(lambda: [node.smooth for node in nodes if node.smooth is not None])
    seen = [set() for _ in nodes]
    for second in range(seconds):
        shares = [node.share for node in nodes]
        for node, load, share, levels in zip(nodes, loads, shares, seen, strict=True):
            part = share * len(nodes) / sum(shares)
            node.hear(load(part), float(second), mean.at(float(second)))
            if second >= settled:
                levels.add(node.share)
    return seen


class TestLoadShare:
    def test_a_busy_node_gets_less_step_by_step_and_never_less_than_the_last(self):
        _, levels = busy(600, 5.0)

        assert list(dict.fromkeys(levels)) == list(LEVELS)
        assert levels[int(SETTLE_S) - 1] == 100
        assert levels[int(SETTLE_S)] == 80
        assert levels[2 * int(SETTLE_S)] == 60

    def test_it_gets_its_share_back_when_it_is_idle(self):
        share, _ = busy(600, 5.0)

        _, levels = busy(600, 0.1, share, start=600.0)

        assert list(dict.fromkeys(levels)) == [40, 60, 80, 100]

    @pytest.mark.parametrize("load", [IDLE + 0.01, BUSY - 0.1])
    def test_between_busy_and_idle_it_stays(self, load):
        share, before = busy(61, 5.0)

        share, levels = busy(600, load, share, start=61.0 + SETTLE_S)

        # What was smoothed may take it one step further before it settles.
        assert len(set(levels)) <= 2
        assert levels[-1] in (before[-1], LEVELS[LEVELS.index(before[-1]) + 1])

    def test_a_peak_of_one_report_changes_nothing(self):
        share, _ = busy(120, 0.8)

        share.hear(3.0, 120.0)

        assert share.share == 100
        _, levels = busy(300, 0.8, share, start=121.0)
        assert set(levels) == {100}

    def test_a_node_whose_load_follows_its_share_settles_and_does_not_swing(self):
        """The load is what the share makes it; two levels in turn would move flows for ever."""
        for whole in (0.5, 0.9, 1.1, 1.3, 1.7, 2.1, 2.6, 5.0):
            share, seen = LoadShare(), []
            for second in range(3600):
                share.hear(whole * share.share / 100, float(second))
                seen.append(share.share)

            assert seen == sorted(seen, reverse=True), whole

    def test_where_all_are_equally_busy_nobody_gets_less(self):
        shares = together([lambda share: 3.0 * share] * 3, 1800)

        assert shares == [{100}] * 3

    def test_the_busiest_of_several_gets_less_and_all_of_them_settle(self):
        """Its other work is its own; what balancers send it follows the share."""
        loads = [lambda share: 1.5 + share, lambda share: share, lambda share: share]

        early, late = together(loads, 1800), together(loads, 1800, settled=1200)

        assert min(early[0]) < 100
        assert early[1:] == [{100}, {100}]
        assert all(len(levels) == 1 for levels in late)

    def test_a_slow_machine_among_fast_ones_settles(self):
        for factor in (1.3, 1.8, 2.5, 4.0):
            loads = [lambda share, f=factor: f * share, *[lambda share: 0.9 * share] * 3]

            assert all(len(levels) == 1 for levels in together(loads, 3600, settled=1200)), factor

    @pytest.mark.parametrize("load", [math.nan, math.inf, -1.0])
    def test_what_is_no_load_is_ignored(self, load):
        share, _ = busy(10, 0.5)

        share.hear(load, 10.0)

        assert share.smooth == pytest.approx(0.5)

    def test_a_ridiculous_load_is_forgotten_in_time(self):
        share, _ = busy(1, 1e30)

        _, levels = busy(1200, 0.0, share, start=1.0)

        assert levels[-1] == 100

    def test_it_goes_on_where_it_was(self):
        share = LoadShare()

        share.resume(60)
        assert share.share == 60
        share.resume(55)
        assert share.share == 100
