# SPDX-License-Identifier: Apache-2.0
"""What of etcd's content is told to the core, and in which order."""

from ipaddress import ip_address

import pytest
from galelb_plugins.sync_etcd.layout import Change, Layout, Place
from galelb_plugins.sync_etcd.view import MAX_MEMBERS, View

from galelb.transport import MAX_RECORD_KEY, MAX_RECORD_VALUE, MAX_RECORDS

LAYOUT = Layout("galelb")
PLACE = Place(ip_address("192.0.2.1"), 7000, "e1")


class Core:
    def __init__(self):
        self.told = []
        self.view = View(LAYOUT, "own", self._peer, self._record)

    def _peer(self, peer):
        self.told.append((peer.name, "left" if peer.left else "alive" if peer.alive else "dead"))

    def _record(self, name, key, value):
        self.told.append((name, key, value))

    def news(self):
        told, self.told = self.told, []
        return told


@pytest.fixture
def core():
    return Core()


def member(name="a", place=PLACE):
    return Change(LAYOUT.member(name), place and place.pack())


def alive(name="a", epoch=b"e1"):
    return Change(LAYOUT.alive(name), epoch)


def record(key="x", value=b"1", name="a"):
    return Change(LAYOUT.record(name, key), value)


def test_a_peer_is_told_before_its_records(core):
    core.view.apply([record(), alive(), member()])
    assert core.news() == [("a", "alive"), ("a", "x", b"1")]


def test_records_without_a_member_wait_for_it(core):
    core.view.apply([record()])
    assert core.news() == []
    core.view.apply([member()])
    assert core.news() == [("a", "dead"), ("a", "x", b"1")]


def test_who_has_no_lease_is_dead_and_its_records_stay(core):
    core.view.apply([member(), alive(), record()])
    core.news()
    core.view.apply([alive(epoch=None)])
    assert core.news() == [("a", "dead")]


def test_the_lease_of_an_earlier_start_keeps_nobody_alive(core):
    core.view.apply([member(), alive(epoch=b"e0")])
    assert core.news() == [("a", "dead")]


def test_who_left_loses_its_records_first(core):
    core.view.apply([member(), alive(), record()])
    core.news()
    core.view.apply([member(place=None), alive(epoch=None), record(value=None)])
    assert core.news() == [("a", "x", None), ("a", "left")]
    assert core.view.peers() == []


def test_what_stays_the_same_is_told_once(core):
    core.view.apply([member(), alive(), record()])
    core.news()
    core.view.apply([member(), alive(), record()])
    core.view.replace([member(), alive(), record()], keep=True)
    assert core.news() == []


def test_a_full_reading_deletes_what_it_lacks(core):
    core.view.apply([member(), alive(), record("x"), record("y")])
    core.news()
    assert not core.view.replace([member(), alive(), record("y", b"2")], keep=True)
    assert core.news() == [("a", "x", None), ("a", "y", b"2")]


def test_members_that_vanished_are_kept_if_etcd_may_have_lost_them(core):
    core.view.apply([member(), alive(), record()])
    core.news()
    assert core.view.replace([], keep=True)
    assert core.view.replace([record()], keep=True)
    assert core.news() == []
    assert not core.view.replace([], keep=False)
    assert core.news() == [("a", "x", None), ("a", "left")]


def test_one_that_was_kept_may_write_itself_anew(core):
    core.view.apply([member(), alive(), record()])
    core.view.replace([], keep=True)
    core.news()
    core.view.apply([member(), alive(), record("x", b"2")])
    assert core.news() == [("a", "x", b"2")]


def test_nothing_is_told_of_oneself(core):
    core.view.apply([member("own"), alive("own"), record(name="own")])
    assert core.news() == []
    assert core.view.ignored == 0


@pytest.mark.parametrize(
    "change",
    [
        Change(b"galelb/strange", b""),
        Change(LAYOUT.member("a"), b"[" * 100_000),
        Change(LAYOUT.alive("a"), b"\xff"),
        record("k" * (MAX_RECORD_KEY + 1)),
        record(value=bytes(MAX_RECORD_VALUE + 1)),
    ],
)
def test_what_is_not_understood_is_counted_and_changes_nothing(core, change):
    core.view.apply([change, member("b"), alive("b")])
    assert core.view.ignored == 1
    assert core.news() == [("b", "alive")]


def test_members_and_records_are_bounded(core):
    core.view.apply([record(str(number)) for number in range(MAX_RECORDS + 1)])
    core.view.apply([member(f"m{number}") for number in range(MAX_MEMBERS)])
    assert core.view.ignored == 2
    assert len(core.view.peers()) == MAX_MEMBERS - 1
