# SPDX-License-Identifier: Apache-2.0
"""Who holds which address."""

from __future__ import annotations

from collections import Counter

import pytest

from galelb.group.ownership import Member, rendezvous, source_holder, vip_owner

ADDRESSES = [f"198.51.100.{number}" for number in range(250)]
GROUP = ["lb1", "lb2", "lb3"]


def owners(members: list[str]) -> dict[str, str | None]:
    return {address: rendezvous(address, members) for address in ADDRESSES}


def test_addresses_spread_over_the_group() -> None:
    shares = Counter(owners(GROUP).values())

    assert set(GROUP) == shares.keys()
    assert min(shares.values()) > len(ADDRESSES) / len(GROUP) / 2


def test_the_order_of_members_means_nothing() -> None:
    assert owners(GROUP) == owners(GROUP[::-1])


def test_only_the_addresses_of_who_goes_move() -> None:
    before, after = owners(GROUP), owners(["lb1", "lb3"])

    moved = {address for address in ADDRESSES if before[address] != after[address]}
    assert moved == {address for address in ADDRESSES if before[address] == "lb2"}


def test_nobody_holds_anything_in_an_empty_group() -> None:
    assert rendezvous("198.51.100.1", []) is None
    assert source_holder("10.0.0.1", "lb1", []) is None
    assert vip_owner("10.0.0.1", []) is None


def test_names_that_read_alike_together_are_told_apart() -> None:
    keys = [str(number) for number in range(200)]
    joined = [rendezvous(key + "1", ["0", "x"]) == rendezvous(key, ["10", "x"]) for key in keys]

    assert not all(joined)


def member(name: str, *, ready: bool = True, steady: bool = True, copies: str = "") -> Member:
    return Member(name=name, ready=ready, steady=steady, copies=frozenset(copies.split()))


def holders(*members: Member) -> set[str | None]:
    return {source_holder(address, "lb1", members) for address in ADDRESSES}


def vip_owners(*members: Member) -> set[str | None]:
    return {vip_owner(address, members) for address in ADDRESSES}


def test_who_lives_holds_its_own_addresses() -> None:
    assert {"lb1"} == holders(member("lb1"), member("lb2", copies="lb1"), member("lb3"))


def test_heirs_are_those_with_a_current_copy() -> None:
    copies = (member("lb2", copies="lb1"), member("lb3", copies="lb1 lb4"))

    assert {"lb2", "lb3"} == holders(*copies, member("lb4"))


def test_without_any_current_copy_somebody_holds_the_address() -> None:
    assert {"lb2", "lb3"} == holders(member("lb2"), member("lb3", copies="lb4"))


@pytest.mark.parametrize("returner", [member("lb1", ready=False), member("lb1", steady=False)])
def test_a_returner_gets_nothing_before_it_is_ready_and_steady(returner: Member) -> None:
    others = (member("lb2", copies="lb1"), member("lb3", copies="lb1"))

    assert {"lb2", "lb3"} == holders(returner, *others)
    assert {"lb2", "lb3"} == vip_owners(returner, *others)


def test_where_nobody_is_ready_nobody_takes_what_others_may_have() -> None:
    members = [member(name, ready=False) for name in GROUP]

    assert {None} == vip_owners(*members)
    assert {None} == holders(*members)


def test_who_is_ready_but_not_steady_comes_before_who_is_not_ready() -> None:
    assert {"lb2"} == vip_owners(member("lb1", ready=False), member("lb2", steady=False))
