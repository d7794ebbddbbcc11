# SPDX-License-Identifier: Apache-2.0
"""Open streams are bounded for each address, for strangers, and for peers."""

from collections import Counter
from ipaddress import ip_address

from galelb_plugins.sync_gossip.refusals import Refusals

from galelb.group.doors import Doors

PEER, OTHER = ip_address("10.0.0.1"), ip_address("10.0.0.2")


def doors():
    return Doors(lambda host: host in (PEER, OTHER), peers=4, strangers=3, per_source=2)


def test_one_address_gets_its_share():
    some = doors()

    assert [True, True, False] == [some.enter(PEER) is not None for _ in range(3)]
    assert some.enter(OTHER)


def test_strangers_take_no_places_of_peers():
    some = doors()
    strangers = [ip_address(f"192.0.2.{number}") for number in range(9)]

    assert 3 == sum(some.enter(one) is not None for one in strangers)
    assert some.enter(PEER)


def test_who_leaves_makes_room_and_nothing_is_kept_of_the_refused():
    some = doors()
    for _ in range(1000):
        place = some.enter(PEER)
        some.leave(place)
    for number in range(200):
        some.enter(ip_address(f"192.0.2.{number}"))

    assert 3 == len(some._open)


def test_a_place_is_given_back_where_it_was_taken():
    """Whether an address is a peer's may change meanwhile."""
    known = set()
    some = Doors(known.__contains__, peers=1, strangers=1, per_source=1)
    place = some.enter(PEER)
    known.add(PEER)

    some.leave(place)

    assert {} == some._open
    assert some.enter(PEER)


# What was refused.


def test_refusals_are_counted_and_logged_once_a_minute():
    some = Refusals()

    said = [some.note("unknown_key", PEER, now) for now in (0.0, 1.0, 59.0, 60.0, 61.0)]

    assert [True, False, False, True, False] == [text is not None for text in said]
    assert Counter(unknown_key=5) == some.counts


def test_what_needs_nobody_is_only_counted():
    some = Refusals()

    assert some.note("replayed", PEER, 0.0) is None
    assert [] == some.notes(0.0)
    assert Counter(replayed=1) == some.counts


def test_notes_name_the_latest_source_once_for_each_meaning():
    some = Refusals()
    some.note("unknown_key", PEER, 0.0)
    some.note("not_authentic", OTHER, 1.0)

    assert 1 == len(some.notes(2.0))
    assert some.notes(2.0)[0].startswith("what comes from 10.0.0.2 has another key")
    assert [] == some.notes(61.0)
