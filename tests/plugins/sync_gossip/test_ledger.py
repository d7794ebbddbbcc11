# SPDX-License-Identifier: Apache-2.0
"""What the core is told, and in which order, whatever the order in which gossip brings it."""

import itertools
from ipaddress import ip_address

import pytest
from galelb_plugins.sync_gossip.ledger import Ledger
from galelb_plugins.sync_gossip.messages import (
    Forgotten,
    MemberChanged,
    Record,
    RecordChanged,
    State,
)

ADDRESS = (ip_address("10.0.0.2"), 7946)
OTHER = (ip_address("10.0.0.3"), 7946)


class Core:
    def __init__(self):
        self.told = []
        self.known = {}
        self.ledger = Ledger(self.peer, self.record, lambda name: list(self.known.values()))

    def peer(self, peer):
        word = "left" if peer.left else "alive" if peer.alive else "dead"
        self.told.append((word, str(peer.address)))

    def record(self, name, key, value):
        assert name == "b"
        self.told.append((key, value))

    def member(self, state, before=None, address=ADDRESS):
        self.ledger.note(MemberChanged("b", address, 1, state, before))

    def write(self, key, value):
        record = Record("b", key, 1, value)
        self.known[key] = record
        if value is None:
            del self.known[key]
        self.ledger.note(RecordChanged(record))

    def take(self):
        told, self.told = self.told, []
        return told


@pytest.fixture
def core():
    return Core()


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_peer_comes_before_its_records(core, order):
    steps = [lambda: core.member(State.ALIVE), lambda: core.write("k", b"1")]
    steps.append(lambda: core.write("l", b"2"))
    for step in order:
        steps[step]()

    told = core.take()

    assert ("alive", "10.0.0.2") == told[0]
    assert [("k", b"1"), ("l", b"2")] == sorted(told[1:])


def test_a_suspect_is_alive(core):
    core.member(State.ALIVE)
    core.take()

    core.member(State.SUSPECT, State.ALIVE)
    core.member(State.ALIVE, State.SUSPECT)

    assert [] == core.take()


def test_records_of_the_dead_are_kept(core):
    core.member(State.ALIVE)
    core.write("k", b"1")
    core.take()

    core.member(State.DEAD, State.SUSPECT)
    core.member(State.ALIVE, State.DEAD)

    assert [("dead", "10.0.0.2"), ("alive", "10.0.0.2")] == core.take()


def test_records_of_who_left_are_deleted_and_stay_so_until_it_returns(core):
    core.member(State.ALIVE)
    core.write("k", b"1")
    core.take()

    core.member(State.LEFT, State.ALIVE)
    core.write("l", b"late")
    assert [("left", "10.0.0.2"), ("k", None)] == core.take()

    core.member(State.ALIVE, State.LEFT)
    assert [("alive", "10.0.0.2"), ("k", b"1"), ("l", b"late")] == core.take()


def test_who_left_before_one_came_is_no_news(core):
    core.member(State.LEFT)
    core.write("k", b"1")
    assert [] == core.take()

    core.member(State.ALIVE, State.LEFT)
    assert [("alive", "10.0.0.2"), ("k", b"1")] == core.take()


def test_who_is_dead_when_one_comes_is_told(core):
    core.member(State.DEAD)

    assert [("dead", "10.0.0.2")] == core.take()


def test_another_address_is_told(core):
    core.member(State.ALIVE)
    core.take()

    core.member(State.ALIVE, State.ALIVE, address=OTHER)

    assert [("alive", "10.0.0.3")] == core.take()


def test_the_same_value_and_unknown_deletions_are_no_news(core):
    core.member(State.ALIVE)
    core.write("k", b"1")
    core.take()

    core.write("k", b"1")
    core.write("never", None)

    assert [] == core.take()


def test_with_a_member_its_records_are_forgotten(core):
    core.member(State.DEAD)
    core.write("k", b"1")
    core.take()

    core.known.clear()
    core.ledger.note(Forgotten("b"))
    core.ledger.note(Forgotten("never seen"))
    assert [("k", None)] == core.take()

    core.member(State.ALIVE)
    assert [("alive", "10.0.0.2")] == core.take()
