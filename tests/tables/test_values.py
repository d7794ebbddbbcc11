# SPDX-License-Identifier: Apache-2.0
"""Lookup tables as values, and their places in gale_slots."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galelb.errors import GaleError
from galelb.tables import SlotSpace, TableSpec, digest, moved, pack, slots_needed


def spec(*nodes, seed=0):
    return TableSpec(nodes=nodes, size=13, seed=seed, scheduler="maglev")


def test_specs_are_equal_whatever_the_order_of_nodes():
    one = spec(("10.0.0.1", 1), ("10.0.0.2", 2))
    other = spec(("10.0.0.2", 2), ("10.0.0.1", 1))

    assert one == other
    assert one.digest == other.digest
    assert ("10.0.0.1", "10.0.0.2") == one.addresses


@pytest.mark.parametrize("other", [spec(("10.0.0.1", 2)), spec(("10.0.0.1", 1), seed=1)])
def test_specs_that_differ_have_other_digests(other):
    assert spec(("10.0.0.1", 1)).digest != other.digest


def test_a_digest_covers_addresses_and_not_positions():
    expected = digest([0, 1, 1], ["10.0.0.1", "10.0.0.2"])

    assert expected == digest([1, 0, 0], ["10.0.0.2", "10.0.0.1"])
    assert expected != digest([0, 1, 1], ["10.0.0.1", "10.0.0.3"])
    assert expected != digest([0, 0, 1], ["10.0.0.1", "10.0.0.2"])


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (["a", "a", "b", "b"], ["a", "c", "b", "b"], 0.25),
        ([], ["a"], 1.0),
        (["a"], [], 1.0),
        ([], [], 0.0),
        (["a"], ["a", "a"], 1.0),
    ],
)
def test_moved_is_the_share_of_slots_that_changed(old, new, expected):
    assert expected == moved(old, new)


def test_a_packed_table_is_whole_elements_of_four_indices():
    packed = pack([0, 1, 0, 1, 0], [7, 65535])

    assert struct.pack("=8H", 7, 65535, 7, 65535, 7, 0, 0, 0) == packed


def test_slots_needed_rounds_up_to_elements():
    assert 16385 * 3 == slots_needed(65537, 3)


def test_services_with_the_same_key_share_a_region():
    space = SlotSpace(100)

    first, fresh = space.acquire("a", 13, now=0.0)
    second, again = space.acquire("a", 13, now=0.0)

    assert first == second
    assert (True, False) == (fresh, again)
    assert 4 == space.used()


def test_a_replaced_region_is_reused_only_after_its_grace():
    space = SlotSpace(8, grace_s=2.0)
    old, _ = space.acquire("a", 13, now=0.0)
    space.acquire("b", 13, now=0.0)
    space.release("a", now=10.0)

    with pytest.raises(GaleError, match=r"frees its place in 0\.5 s"):
        space.acquire("c", 13, now=11.5)
    region, fresh = space.acquire("c", 13, now=12.0)

    assert old == region
    assert fresh


def test_a_region_comes_back_with_its_content_within_its_grace():
    space = SlotSpace(8, grace_s=2.0)
    old, _ = space.acquire("a", 13, now=0.0)
    space.release("a", now=10.0)

    region, fresh = space.acquire("a", 13, now=11.0)

    assert old == region
    assert not fresh
    assert space.region("a") == region


def test_a_region_is_held_until_its_last_user_releases_it():
    space = SlotSpace(4, grace_s=0.0)
    space.acquire("a", 13, now=0.0)
    space.acquire("a", 13, now=0.0)
    space.release("a", now=1.0)

    with pytest.raises(GaleError, match="4 of 4 are in use"):
        space.acquire("b", 13, now=2.0)


def test_releasing_what_is_not_held_is_an_error():
    space = SlotSpace(4)
    space.acquire("a", 13, now=0.0)
    space.release("a", now=0.0)

    with pytest.raises(KeyError):
        space.release("a", now=0.0)
    with pytest.raises(KeyError):
        space.release("b", now=0.0)
    assert space.region("a") is None


def test_adopted_regions_are_left_alone():
    space = SlotSpace(12)
    adopted = space.adopt("old", first=4, size=13)

    below, _ = space.acquire("a", 13, now=0.0)
    above, _ = space.acquire("b", 13, now=0.0)
    same, fresh = space.acquire("old", 13, now=0.0)

    assert (0, 8) == (below.first, above.first)
    assert (adopted, False) == (same, fresh)
    assert 32 == adopted.byte_offset


@pytest.mark.parametrize(("key", "first"), [("b", 2), ("b", 9), ("a", 8), ("b", -1)])
def test_a_region_that_cannot_be_adopted_is_refused(key, first):
    space = SlotSpace(12)
    space.adopt("a", first=4, size=13)

    with pytest.raises(GaleError, match="cannot be adopted"):
        space.adopt(key, first=first, size=13)


steps = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.integers(1, 20), st.booleans(), st.floats(0, 2))
)


@given(steps)
def test_regions_never_overlap(actions):
    space = SlotSpace(20, grace_s=1.0)
    sizes, users, now = {}, {}, 0.0
    for key, size, take, wait in actions:
        now += wait
        try:
            if take:
                _, fresh = space.acquire(key, sizes.get(key, size), now)
                sizes[key] = size if fresh else sizes[key]
                users[key] = users.get(key, 0) + 1
            elif users.get(key):
                space.release(key, now)
                users[key] -= 1
        except GaleError:
            continue
        taken = [space.region(k) for k, count in users.items() if count]
        elements = [e for r in taken for e in range(r.first, r.end)]
        assert len(elements) == len(set(elements))
        assert all(0 <= e < 20 for e in elements)
