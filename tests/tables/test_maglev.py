# SPDX-License-Identifier: Apache-2.0
"""Maglev tables are even, equal everywhere, and hardly move."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from galelb.tables.maglev import Maglev, build_table
from galelb.testing.schedulers import SchedulerContract

SIZE = 65537
SMALL = 1009


class TestContract(SchedulerContract):
    scheduler = Maglev


def names(nodes, table):
    return [nodes[position][0] for position in table]


def share_moved(nodes, other, size=SIZE, seed=0):
    before = names(nodes, build_table(nodes, size, seed))
    after = names(other, build_table(other, size, seed))
    return sum(a != b for a, b in zip(before, after, strict=True)) / size


def equal_nodes(count):
    return [(f"10.0.{n // 256}.{n % 256}", 1) for n in range(count)]


def uneven_nodes(count):
    return [(f"fd00::{n:x}", 1 + n % 7) for n in range(count)]


def test_a_table_is_the_same_on_every_balancer():
    nodes = [("10.0.0.1", 1), ("10.0.0.2", 2), ("10.0.0.3", 1)]

    # Fixed for ever: a group may run two versions of galelb.
    table = build_table(nodes, 13, 7)

    assert [0, 1, 0, 2, 1, 1, 1, 1, 1, 1, 2, 0, 2] == table


def test_one_node_gets_every_slot():
    assert [0] * SMALL == build_table([("10.0.0.1", 5)], SMALL, 0)


def test_the_scheduler_is_called_maglev_and_builds_the_same_table():
    nodes = uneven_nodes(5)

    assert Maglev.name == "maglev"
    assert build_table(nodes, SMALL, 3) == Maglev(Maglev.Options()).build(nodes, SMALL, 3)


def test_another_seed_gives_another_table():
    nodes = equal_nodes(10)

    assert build_table(nodes, SMALL, 1) != build_table(nodes, SMALL, 2)


@pytest.mark.parametrize("nodes", [equal_nodes(10), uneven_nodes(10), uneven_nodes(100)])
def test_shares_follow_the_weights_within_two_percent(nodes):
    counts = Counter(build_table(nodes, SIZE, 0))

    total = sum(weight for _, weight in nodes)
    for position, (_, weight) in enumerate(nodes):
        assert counts[position] == pytest.approx(SIZE * weight / total, rel=0.02)


@pytest.mark.parametrize("nodes", [equal_nodes(3), equal_nodes(100), uneven_nodes(40)])
def test_removing_a_node_moves_its_share_plus_less_than_one_percent(nodes):
    total = sum(weight for _, weight in nodes)

    moved = share_moved(nodes, nodes[:1] + nodes[2:])

    assert nodes[1][1] / total - 0.001 <= moved < nodes[1][1] / total + 0.01


@pytest.mark.parametrize("factor", [2, 10])
def test_a_new_weight_moves_the_difference_plus_less_than_one_percent(factor):
    nodes = uneven_nodes(40)
    heavier = [(a, w * factor if n == 11 else w) for n, (a, w) in enumerate(nodes)]
    before = nodes[11][1] / sum(w for _, w in nodes)
    after = heavier[11][1] / sum(w for _, w in heavier)

    assert share_moved(nodes, heavier) < after - before + 0.01


@pytest.mark.parametrize("count", [2, 3, 10, 100])
def test_each_step_of_a_slow_start_moves_what_it_must_plus_less_than_one_percent(count):
    others, steps = equal_nodes(count)[1:], [0.2, 0.4, 0.6, 0.8, 1]
    tables = [others, *([("10.0.0.0", weight), *others] for weight in steps)]
    shares = [0.0, *(weight / (weight + count - 1) for weight in steps)]

    for before, after, owned, owns in zip(tables, tables[1:], shares, shares[1:], strict=False):
        assert owns - owned - 0.001 <= share_moved(before, after) < owns - owned + 0.01


def test_weights_count_only_in_proportion():
    nodes = uneven_nodes(20)

    tripled = [(address, weight * 3) for address, weight in nodes]

    assert build_table(nodes, SMALL, 0) == build_table(tripled, SMALL, 0)


def test_the_lightest_node_still_gets_a_slot():
    table = build_table([("10.0.0.1", 1), ("10.0.0.2", 1_000_000)], SMALL, 0)

    assert table.count(0) == 1


node_sets = st.dictionaries(
    st.ip_addresses().map(str),
    st.integers(1, 1000) | st.integers(1, 100_000).map(lambda hundredths: hundredths / 100),
    min_size=1,
    max_size=30,
).map(lambda nodes: list(nodes.items()))


@settings(max_examples=60, deadline=None)
@given(node_sets, st.integers(0, 2**64), st.randoms(use_true_random=False))
def test_the_order_of_nodes_never_matters(nodes, seed, random):
    shuffled = list(nodes)
    random.shuffle(shuffled)

    expected = names(nodes, build_table(nodes, SMALL, seed))

    assert expected == names(shuffled, build_table(shuffled, SMALL, seed))


@settings(max_examples=60, deadline=None)
@given(node_sets)
def test_every_slot_is_filled_and_every_node_has_its_share_within_a_slot(nodes):
    counts = Counter(build_table(nodes, SMALL, 0))

    total = sum(weight for _, weight in nodes)
    assert sum(counts.values()) == SMALL
    for position, (_, weight) in enumerate(nodes):
        # Nodes lifted to one slot take at most a slot each from the others together.
        assert abs(counts[position] - SMALL * weight / total) <= 1 + len(nodes) * weight / total


@pytest.mark.parametrize(
    ("nodes", "size", "words"),
    [
        ([], SMALL, "at least one node"),
        ([("10.0.0.1", 1)], 1000, "prime"),
        ([("10.0.0.1", 1)], 1, "prime"),
        ([("10.0.0.1", 0)], SMALL, "above 0"),
        ([("10.0.0.1", -0.5)], SMALL, "above 0"),
        ([("10.0.0.1", 1), ("10.0.0.2", float("nan"))], SMALL, "above 0"),
        ([("10.0.0.1", 1), ("10.0.0.1", 2)], SMALL, "twice"),
        (equal_nodes(20), 13, "do not fit"),
    ],
)
def test_what_cannot_be_built_is_refused(nodes, size, words):
    with pytest.raises(ValueError, match=words):
        build_table(nodes, size, 0)
