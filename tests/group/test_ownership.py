# SPDX-License-Identifier: Apache-2.0
"""Who holds which address."""

from __future__ import annotations

from collections import Counter

import pytest

from galelb.group.ownership import heir, rendezvous

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
    assert heir("10.0.0.1", "lb1", {}, tolerated=1.0) is None


def test_names_that_read_alike_together_are_told_apart() -> None:
    keys = [str(number) for number in range(200)]
    joined = [rendezvous(key + "1", ["0", "x"]) == rendezvous(key, ["10", "x"]) for key in keys]

    assert not all(joined)


@pytest.mark.parametrize("lag", [0.0, 100.0])
def test_who_lives_holds_its_own_addresses(lag: float) -> None:
    lags = {"lb1": lag, "lb2": 0.0, "lb3": 0.0}

    assert {heir(address, "lb1", lags, tolerated=1.0) for address in ADDRESSES} == {"lb1"}


def test_copies_that_are_current_inherit_alike() -> None:
    lags = {"lb2": 0.2, "lb3": 0.9, "lb4": 5.0}

    found = Counter(heir(address, "lb1", lags, tolerated=1.0) for address in ADDRESSES)
    assert {"lb2", "lb3"} == found.keys()


def test_the_most_current_copy_inherits_where_none_is_current() -> None:
    lags = {"lb2": 9.0, "lb3": 8.0}

    assert {heir(address, "lb1", lags, tolerated=1.0) for address in ADDRESSES} == {"lb3"}
