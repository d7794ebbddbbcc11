# SPDX-License-Identifier: Apache-2.0
"""Slices are allocated once, kept for ever, and given up only when short and idle."""

from __future__ import annotations

from ipaddress import ip_address
from itertools import pairwise

import pytest
from galelb_plugins.l4_nat.slices import Shape, Slice, SliceKey, WantedSlice, plan_slices
from hypothesis import given
from hypothesis import strategies as st

from galelb.model import Protocol

SHAPE = Shape(first_id=1, slices=3, stride=100)


def key(number: int, source: str = "10.0.0.1") -> SliceKey:
    return SliceKey(
        node=ip_address(f"10.0.1.{number}"),
        source=ip_address(source),
        target_port=80,
        protocol=Protocol.TCP,
    )


def want(number: int, first: int = 2000, count: int = 100) -> WantedSlice:
    return WantedSlice(node=number, source_index=0, first_port=first, count=count)


def plan(wanted, held=None, *, reusable=frozenset(), idle=lambda part: True, shape=SHAPE):
    return plan_slices(wanted, held or {}, shape, reusable=frozenset(reusable), idle=idle)


def test_new_combinations_get_the_next_free_ids() -> None:
    result = plan({key(1): want(1), key(2): want(2)})

    assert [1, 2] == [part.id for part in result.slices.values()]
    assert [0, 100] == [part.base for part in result.slices.values()]
    assert [] == list(result.exhausted)


def test_held_slices_keep_their_place() -> None:
    held = {key(2): Slice(id=3, base=200, first_port=2000, count=100, node=2, source_index=0)}

    result = plan({key(1): want(1), key(2): want(2)}, held)

    assert 3 == result.slices[key(2)].id
    assert 200 == result.slices[key(2)].base
    assert 1 == result.slices[key(1)].id


def test_unwanted_slices_stay_while_there_is_space() -> None:
    held = plan({key(1): want(1)}).slices

    result = plan({key(2): want(2)}, held, reusable={key(1)})

    assert {key(1), key(2)} == set(result.slices)
    assert {key(1)} == result.unwanted
    assert [] == list(result.released)


def test_an_idle_unwanted_slice_of_the_last_plan_is_given_up_when_space_is_short() -> None:
    held = plan({key(n): want(n) for n in (1, 2, 3)}).slices

    result = plan({key(n): want(n) for n in (2, 3, 4)}, held, reusable={key(1)})

    assert [key(1)] == list(result.released)
    assert held[key(1)].id == result.slices[key(4)].id
    assert [] == list(result.exhausted)


def test_a_slice_with_flows_is_not_given_up() -> None:
    held = plan({key(n): want(n) for n in (1, 2, 3)}).slices

    result = plan(
        {key(n): want(n) for n in (2, 3, 4)}, held, reusable={key(1)}, idle=lambda part: False
    )

    assert [key(4)] == list(result.exhausted)
    assert key(1) in result.slices


def test_a_slice_that_has_only_just_become_unwanted_is_not_given_up() -> None:
    held = plan({key(n): want(n) for n in (1, 2, 3)}).slices

    result = plan({key(n): want(n) for n in (2, 3, 4)}, held)

    assert [key(4)] == list(result.exhausted)


def test_changed_ports_apply_to_idle_slices_only() -> None:
    held = plan({key(1): want(1)}).slices

    idle = plan({key(1): want(1, first=3000)}, held)
    busy = plan({key(1): want(1, first=3000)}, held, idle=lambda part: False)

    assert 3000 == idle.slices[key(1)].first_port
    assert 2000 == busy.slices[key(1)].first_port


def test_a_slice_from_another_shape_is_allocated_anew() -> None:
    held = {key(1): Slice(id=2, base=999, first_port=2000, count=100, node=1, source_index=0)}

    result = plan({key(1): want(1)}, held)

    assert 1 == result.slices[key(1)].id
    assert [] == list(result.released)


def test_a_returning_node_updates_its_index_and_keeps_its_slice() -> None:
    held = plan({key(1): want(1)}).slices

    result = plan({key(1): want(9)}, held)

    assert 9 == result.slices[key(1)].node
    assert held[key(1)].base == result.slices[key(1)].base


@given(st.lists(st.sets(st.integers(1, 12), max_size=8), max_size=12), st.integers(1, 6))
def test_slices_never_overlap_and_never_move(rounds: list[set[int]], slices: int) -> None:
    shape = Shape(first_id=5, slices=slices, stride=10)
    held: dict[SliceKey, Slice] = {}
    reusable: frozenset[SliceKey] = frozenset()
    for nodes in rounds:
        wanted = {key(n): want(n, count=10) for n in sorted(nodes)}
        result = plan(wanted, held, reusable=reusable, shape=shape)

        places = [part.base for part in result.slices.values()]
        assert len(places) == len(set(places))
        for kept in set(held) & set(result.slices):
            assert held[kept].id == result.slices[kept].id
        assert set(wanted) == (set(result.slices) | set(result.exhausted)) & set(wanted)
        held, reusable = dict(result.slices), frozenset(result.unwanted)


LARGE = Shape(first_id=1, slices=4, stride=8192)
"""Blocks of 16 units of 512 ports."""


def wants(count: int) -> dict[SliceKey, WantedSlice]:
    return {key(n): want(n, count=8192) for n in range(1, count + 1)}


def overlapping(result) -> bool:
    places = sorted((part.base, part.base + part.count) for part in result.slices.values())
    outside = places and (places[0][0] < 0 or places[-1][1] > 4 * 8192)
    return bool(outside) or any(a[1] > b[0] for a, b in pairwise(places))


@pytest.mark.parametrize(
    ("combinations", "ports"), [(1, 8192), (3, 8192), (4, 4096), (6, 4096), (25, 512), (64, 512)]
)
def test_the_more_combinations_the_smaller_their_slices(combinations: int, ports: int) -> None:
    result = plan(wants(combinations), shape=LARGE)

    assert [] == list(result.exhausted)
    assert {ports} == {part.count for part in result.slices.values()}
    assert not overlapping(result)
    assert combinations == len({part.id for part in result.slices.values()})


def test_there_is_an_end_to_getting_smaller() -> None:
    result = plan(wants(65), shape=LARGE)

    assert [key(65)] == list(result.exhausted)


def test_slices_with_flows_keep_their_size_and_others_make_room() -> None:
    held = plan(wants(3), shape=LARGE).slices
    busy = held[key(2)]

    def idle(part: Slice) -> bool:
        return not part.base <= busy.base < part.base + part.count

    first = plan(wants(20), held, shape=LARGE, idle=idle)
    second = plan(wants(20), first.slices, shape=LARGE, idle=idle)

    assert [busy] * 2 == [result.slices[key(2)] for result in (first, second)]
    assert [1024, 1024] == [first.slices[key(n)].count for n in (1, 3)]
    assert [] == list(first.exhausted)
    assert first.slices == second.slices
    assert not overlapping(first)


def test_no_slice_begins_where_flows_are_left() -> None:
    result = plan(wants(1), shape=LARGE, idle=lambda part: part.base >= 8192)

    assert 8192 == result.slices[key(1)].base


def test_an_idle_slice_grows_again_where_it_can() -> None:
    small = plan(wants(20), shape=LARGE)
    grown = plan(wants(1), {key(1): small.slices[key(1)]}, shape=LARGE)

    assert 1024 == small.slices[key(1)].count
    assert 8192 == grown.slices[key(1)].count


@given(st.lists(st.tuples(st.integers(0, 70), st.sets(st.integers(1, 70))), max_size=8))
def test_slices_of_any_size_never_overlap(rounds: list[tuple[int, set[int]]]) -> None:
    held: dict[SliceKey, Slice] = {}
    reusable: frozenset[SliceKey] = frozenset()
    for count, busy in rounds:
        used = [held[key(n)] for n in busy if key(n) in held]

        def idle(part: Slice, used: list[Slice] = used) -> bool:
            ends = part.base + part.count
            return not any(part.base < u.base + u.count and u.base < ends for u in used)

        result = plan(wants(count), held, reusable=reusable, shape=LARGE, idle=idle)

        assert not overlapping(result)
        assert all(held[k] == result.slices[k] for k in held if held[k] in used)
        held, reusable = dict(result.slices), frozenset(result.unwanted)


# slices of other balancers' addresses

WIDE = Shape(first_id=1, slices=4, stride=100)
GUEST = "10.0.0.2"


def with_guests(wanted, guests, held=None, *, idle=lambda part: True, reusable=frozenset()):
    return plan_slices(
        {key(n): want(n) for n in wanted},
        held or {},
        WIDE,
        reusable=frozenset(reusable),
        idle=idle,
        guests={key(n, GUEST): want(n) for n in guests},
    )


def test_guests_get_what_is_left_after_own_slices() -> None:
    result = with_guests([1, 2], [1])

    assert [key(1), key(2), key(1, GUEST)] == list(result.slices)
    assert [1, 2, 3] == [part.id for part in result.slices.values()]
    assert ([], []) == (list(result.exhausted), list(result.unhoused))


def test_the_last_quarter_is_not_for_guests() -> None:
    result = with_guests([1, 2], [1, 2])

    assert [key(2, GUEST)] == list(result.unhoused)
    assert 3 == len(result.slices)


def test_guests_are_wanted_and_keep_their_place() -> None:
    held = with_guests([1], [1, 2]).slices

    result = with_guests([1], [2, 1], held)

    assert held == result.slices
    assert frozenset() == result.unwanted


def test_an_idle_guest_gives_way_to_an_own_slice() -> None:
    held = with_guests([1], [1, 2]).slices

    result = with_guests([1, 2, 3], [1, 2], held)

    assert [] == list(result.exhausted)
    assert {key(1), key(2), key(3)} <= set(result.slices)
    assert 1 == len(result.released)
    assert result.released[0].source == ip_address(GUEST)
    assert list(result.released) == list(result.unhoused)


def test_a_guest_with_flows_stays() -> None:
    held = with_guests([1], [1, 2]).slices

    result = with_guests([1, 2, 3], [1, 2], held, idle=lambda part: part.id > 3)

    assert [key(3)] == list(result.exhausted)
    assert {key(1, GUEST), key(2, GUEST)} <= set(result.slices)


def test_a_guest_that_left_is_given_up_for_another_one_only_when_idle_since_the_last_plan() -> None:
    held = with_guests([1], [1, 2]).slices

    early = with_guests([1], [3], held)
    late = with_guests([1], [3], held, reusable=early.unwanted)

    assert {key(1, GUEST), key(2, GUEST)} == early.unwanted
    assert key(3, GUEST) in {*early.slices, *early.unhoused}
    assert set(late.slices) >= {key(1)}


@given(st.sets(st.integers(1, 9)), st.sets(st.integers(1, 9)), st.sets(st.integers(1, 9)))
def test_guests_never_push_own_slices_out(first, guests, then) -> None:
    held = with_guests(first, []).slices
    alone = with_guests(then, [], held, reusable=frozenset(held))

    result = with_guests(then, guests, held, reusable=frozenset(held))

    assert len(result.exhausted) <= len(alone.exhausted)
    places = [place for part in result.slices.values() for place in WIDE.places(part)]
    assert len(places) == len(set(places))
    ids = [part.id for part in result.slices.values()]
    assert len(ids) == len(set(ids))
