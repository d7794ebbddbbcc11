# SPDX-License-Identifier: Apache-2.0
"""Ring tables: even, equal everywhere, and hardly moving."""

import itertools
import zlib
from collections import Counter

import pytest
from galelb_plugins import ring as package
from galelb_plugins.ring.plugin import Ring, RingOptions, build_table
from galelb_plugins.ring.points import NODE_BITS, points
from galelb_plugins.ring.quotas import quotas
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from galelb.plugins import Plugins
from galelb.testing.schedulers import SchedulerContract

SIZE = 65537
SMALL = 1009


class TestContract(SchedulerContract):
    scheduler = Ring


def names(nodes, table):
    return [nodes[position][0] for position in table]


def moved(nodes, other, virtual_nodes=512):
    before = names(nodes, build_table(nodes, SIZE, 0, virtual_nodes))
    after = names(other, build_table(other, SIZE, 0, virtual_nodes))
    return sum(a != b for a, b in zip(before, after, strict=True)) / SIZE


def equal_nodes(count):
    return [(f"10.0.0.{n}", 1) for n in range(1, count + 1)]


def uneven_nodes(count):
    return [(f"10.0.0.{n}", 1 + n % 10) for n in range(1, count + 1)]


def plain_fmix32(value):
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        value = (value ^ value >> shift) * factor & 0xFFFFFFFF
    return value ^ value >> 16


def test_a_table_is_the_same_on_every_balancer():
    nodes = [("10.0.0.1", 1), ("10.0.0.2", 2), ("10.0.0.3", 1)]

    # Fixed for ever: a group may run two versions of galelb.
    table = build_table(nodes, 13, 7, 512)

    assert [2, 0, 1, 1, 1, 1, 1, 0, 2, 1, 2, 0, 1] == table


def test_the_plugin_registers_it():
    plugins = Plugins.discover(load_entry_points=False, extra=[package])

    assert plugins.scheduler("ring") is Ring


def test_a_point_is_the_mixed_crc_of_the_node_and_a_number():
    found = points("10.0.0.1", 40, 3, 5)

    start = plain_fmix32(zlib.crc32(b"3/10.0.0.1"))
    expected = [plain_fmix32(zlib.crc32(b"/%d" % n, start)) << NODE_BITS | 5 for n in range(40)]
    assert expected == list(found)


def test_fewer_points_are_the_beginning_of_more():
    assert points("fd00::1", 1024, 0, 1)[:512] == points("fd00::1", 512, 0, 1)


def test_the_points_of_similar_addresses_do_not_lie_in_one_pattern():
    """Unmixed, two nodes' sorted points would differ by one constant, as CRC-32 is linear."""
    one, other = points("10.0.0.1", 512, 0, 0), points("10.0.0.2", 512, 0, 0)

    differences = {a >> NODE_BITS ^ b >> NODE_BITS for a, b in zip(one, other, strict=True)}

    assert len(differences) == 512


def test_without_bounds_already_no_node_has_more_than_chance_gives():
    """The spread of 512 random places is 4.4 % (1 / sqrt(512)); 5 times that is no chance."""
    ring = sorted(p for n in range(1, 101) for p in points(f"10.0.0.{n}", 512, 0, n))
    arcs = Counter()
    before = (ring[-1] >> NODE_BITS) - 2**32
    for point in ring:
        arcs[point & 0xFF] += (point >> NODE_BITS) - before
        before = point >> NODE_BITS

    assert max(abs(arc / 2**32 * 100 - 1) for arc in arcs.values()) < 0.22


@pytest.mark.parametrize("nodes", [equal_nodes(100), uneven_nodes(100), uneven_nodes(10)])
def test_shares_are_the_weights_to_a_slot(nodes):
    counts = Counter(build_table(nodes, SIZE, 0, 512))

    total = sum(weight for _, weight in nodes)
    for position, (_, weight) in enumerate(nodes):
        assert abs(counts[position] - SIZE * weight / total) < 1


@pytest.mark.parametrize("nodes", [equal_nodes(3), equal_nodes(10), uneven_nodes(100)])
def test_who_leaves_moves_its_share_and_less_than_one_percent_more(nodes):
    total = sum(weight for _, weight in nodes)

    share = moved(nodes, nodes[:1] + nodes[2:])

    assert nodes[1][1] / total - 0.001 <= share < nodes[1][1] / total + 0.01


def test_more_virtual_nodes_move_less():
    nodes = equal_nodes(100)

    assert moved(nodes, nodes[1:], 512) < moved(nodes, nodes[1:], 32)


def test_the_options_say_how_many_virtual_nodes():
    nodes = uneven_nodes(10)

    few = Ring(RingOptions(virtual_nodes=16)).build(nodes, SMALL, 3)

    assert build_table(nodes, SMALL, 3, 16) == few
    assert build_table(nodes, SMALL, 3, 512) != few
    with pytest.raises(ValidationError):
        RingOptions(virtual_nodes=0)


node_sets = st.dictionaries(
    st.ip_addresses().map(str), st.integers(1, 65535), min_size=1, max_size=30
).map(lambda nodes: list(nodes.items()))


@settings(max_examples=40, deadline=None)
@given(node_sets, st.integers(0, 2**32 - 1), st.randoms(use_true_random=False))
def test_any_nodes_in_any_order(nodes, seed, shuffler):
    shuffled = shuffler.sample(nodes, len(nodes))

    table = names(nodes, build_table(nodes, SMALL, seed, 16))

    assert names(shuffled, build_table(shuffled, SMALL, seed, 16)) == table
    assert {address for address, _ in nodes} == set(table)


@settings(max_examples=200, deadline=None)
@given(node_sets, st.integers(30, 2000))
def test_quotas_add_up_and_grow_with_the_weight(nodes, size):
    found = quotas(nodes, size)

    assert sum(found) == size
    assert min(found) >= 1
    by_weight = sorted((weight, count) for (_, weight), count in zip(nodes, found, strict=True))
    assert all(b[1] >= a[1] - 1 for a, b in itertools.pairwise(by_weight))


@pytest.mark.parametrize(
    ("nodes", "size", "words"),
    [
        ([], SMALL, "at least one node"),
        ([("10.0.0.1", 0)], SMALL, "above 0"),
        ([("10.0.0.1", 1), ("10.0.0.1", 2)], SMALL, "twice"),
        (equal_nodes(20), 13, "do not fit"),
    ],
)
def test_what_cannot_be_built_is_refused(nodes, size, words):
    with pytest.raises(ValueError, match=words):
        build_table(nodes, size, 0, 512)
