# SPDX-License-Identifier: Apache-2.0
"""Sealed datagrams: only the group's, each once, only after a challenge; all else is counted."""

from ipaddress import IPv4Address

import pytest
from galelb_plugins.sync_gossip.messages import Claim, Gossip, Nack, Record, State
from galelb_plugins.sync_gossip.replay import WINDOW, ReplayWindow
from galelb_plugins.sync_gossip.seal import Seal
from galelb_plugins.sync_gossip.wire import MAX_DATAGRAM, MAX_NAME, MAX_PLAIN, encode, size_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from galelb.errors import LocalProtocolError
from galelb.group.handshake import EPOCH_BYTES
from galelb.group.keys import KeyRing

UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
OLD, NEW, FOREIGN = (bytes([number]) * 32 for number in (1, 2, 3))
RING = KeyRing({1: OLD}, 1)
A, B, C = ((IPv4Address("10.0.0.1") + number, 7946) for number in range(3))


def seal(name, address, ring=RING, epoch=b"e"):
    return Seal(name, address, ring, epoch * EPOCH_BYTES)


def pair(ring=RING):
    """Return a and b, who have challenged each other."""
    a, b = seal("a", A, ring, b"a"), seal("b", B, ring, b"b")
    assert a.admit("b", b"b" * EPOCH_BYTES)
    assert b.admit("a", b"a" * EPOCH_BYTES)
    return a, b


def dropped(receiver, data):
    """Return the reason for which a datagram is dropped; None if it is taken."""
    before = receiver.drops.copy()
    if receiver.open(data) is not None:
        assert before == receiver.drops
        return None
    (reason,) = (receiver.drops - before).elements()
    return reason


def test_what_one_seals_the_other_opens():
    a, b = pair()

    assert ("a", Nack(7)) == b.open(a.seal(B, Nack(7)))
    assert ("b", Nack(8)) == a.open(b.seal(A, Nack(8)))


def test_nothing_can_be_read_on_the_way():
    a, _ = pair()

    data = a.seal(B, Gossip((Record("a", "secret-key", 1, b"secret-value"),)))

    assert b"secret" not in data


def test_no_two_datagrams_have_the_same_nonce_and_key():
    """Not within a start, and after the next one the key is another."""
    first, again = seal("a", A, epoch=b"1"), seal("a", A, epoch=b"2")

    sealed = {one.seal(B, Nack(1))[-21:] for one in (first, again) for _ in range(1000)}

    assert 2000 == len(sealed)


def test_a_datagram_is_taken_once():
    a, b = pair()
    datagrams = [a.seal(B, Nack(number)) for number in range(3)]

    for data in reversed(datagrams):
        assert dropped(b, data) is None
    for data in datagrams:
        assert "replayed" == dropped(b, data)


def test_one_that_is_too_late_is_dropped_though_nobody_knows_it():
    a, b = pair()
    late = a.seal(B, Nack(0))
    for _ in range(WINDOW):
        latest = a.seal(B, Nack(1))
    b.open(latest)

    assert "replayed" == dropped(b, late)


def test_ones_own_datagram_is_dropped():
    a, _ = pair()

    assert "reflected" == dropped(a, a.seal(B, Nack(1)))


def test_a_copy_for_another_member_does_not_open():
    a, _ = pair()
    c = seal("c", C)
    c.admit("a", b"a" * EPOCH_BYTES)

    assert "not_authentic" == dropped(c, a.seal(B, Nack(1)))
    assert dropped(c, a.seal(C, Nack(1))) is None


def test_a_peer_is_ignored_until_it_is_challenged():
    a, b = seal("a", A), seal("b", B)
    data = a.seal(B, Nack(1))

    assert "not_challenged" == dropped(b, data)
    b.admit("a", b"e" * EPOCH_BYTES)
    assert dropped(b, data) is None
    b.forget("a")
    assert "not_challenged" == dropped(b, a.seal(B, Nack(2)))


def test_what_was_sealed_before_a_restart_is_stale():
    before, b = pair()
    after = seal("a", A, epoch=b"n")
    recorded = before.seal(B, Nack(1))

    assert "stale_epoch" == dropped(b, after.seal(B, Nack(2)))
    b.admit("a", b"n" * EPOCH_BYTES)
    assert "stale_epoch" == dropped(b, recorded)
    assert dropped(b, after.seal(B, Nack(3))) is None


def test_who_has_to_be_challenged_is_told_once_and_bounded():
    a, b = pair()
    for name in "cde":
        b.open(seal(name, C).seal(B, Nack(1)))
    b.open(seal("a", A, epoch=b"n").seal(B, Nack(1)))
    b.open(a.seal(B, Nack(1)))

    assert set("acde") == b.take_unproved()
    assert set() == b.take_unproved()

    narrow = Seal("b", B, RING, bytes(EPOCH_BYTES), peers=2)
    for name in "cde":
        narrow.open(seal(name, C).seal(B, Nack(1)))
    assert set("cd") == narrow.take_unproved()


def test_a_second_challenge_in_one_epoch_opens_no_door_to_replays():
    a, b = pair()
    data = a.seal(B, Nack(1))
    b.open(data)

    b.admit("a", b"a" * EPOCH_BYTES)

    assert "replayed" == dropped(b, data)


def test_a_restarted_receiver_takes_no_replays_of_another_epoch():
    a, _ = pair()
    recorded = a.seal(B, Nack(1))
    restarted = seal("b", B, epoch=b"r")

    assert "not_challenged" == dropped(restarted, recorded)


@pytest.mark.parametrize(("number", "reason"), [(1, "not_authentic"), (9, "unknown_key")])
def test_a_sender_without_the_key_changes_nothing(number, reason):
    a, b = pair()
    rogue = seal("a", A, KeyRing({number: FOREIGN}, number), b"a")

    assert reason == dropped(b, rogue.seal(B, Nack(1)))
    # Its counter was not remembered: the real one is taken.
    assert dropped(b, a.seal(B, Nack(1))) is None


def test_keys_are_changed_without_a_lost_datagram():
    both_old, both_new = KeyRing({1: OLD, 2: NEW}, 1), KeyRing({1: OLD, 2: NEW}, 2)
    new = KeyRing({2: NEW}, 2)
    a, b = pair()
    old = a.seal(B, Nack(0))

    for ring in (both_old, both_new, new):
        b.change_keys(ring)
        assert dropped(b, a.seal(B, Nack(1))) is None
        a.change_keys(ring)
        assert dropped(b, a.seal(B, Nack(2))) is None
        assert dropped(a, b.seal(A, Nack(3))) is None

    assert "unknown_key" == dropped(b, old)


@UNTIMED
@given(st.data())
def test_a_changed_datagram_never_opens(data):
    a, b = pair()
    sealed = bytearray(a.seal(B, Nack(1)))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= data.draw(st.integers(1, 255))

    assert dropped(b, bytes(sealed)) is not None


def test_no_truncation_opens():
    a, b = pair()
    sealed = a.seal(B, Nack(1))

    reasons = {dropped(b, sealed[:length]) for length in range(len(sealed))}

    assert {"truncated", "not_authentic"} == reasons


@UNTIMED
@given(st.binary(max_size=1500))
def test_garbage_is_dropped_with_a_reason(data):
    _, b = pair()

    assert dropped(b, data) is not None


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (bytes(MAX_DATAGRAM + 1), "oversized"),
        (b"\x02" + bytes(100), "unknown_version"),
        (b"\x01" + bytes(100), "malformed"),
        (b"\x01\x01" + bytes(24) + b"\x02\xff\xfe", "malformed"),
    ],
)
def test_a_datagram_that_cannot_be_read_is_dropped_for_this_reason(data, reason):
    assert reason == dropped(pair()[1], data)


def test_an_authentic_datagram_without_a_message_is_dropped(monkeypatch):
    a, b = pair()
    monkeypatch.setattr("galelb_plugins.sync_gossip.seal.encode", lambda _: b"\x01\x63")

    assert "unknown_message" == dropped(b, a.seal(B, Nack(1)))


def test_the_longest_message_makes_the_longest_datagram():
    name = "n" * MAX_NAME
    claim = Claim("m", A, 1, State.ALIVE)
    count = (MAX_PLAIN - len(encode(Gossip(())))) // size_of(claim)
    message = Gossip((claim,) * count)

    length = len(seal(name, A).seal(B, message))

    assert MAX_DATAGRAM == length + MAX_PLAIN - len(encode(message))


def test_peers_are_bounded():
    a = Seal("a", A, RING, bytes(EPOCH_BYTES), peers=1)

    assert a.admit("b", bytes(EPOCH_BYTES))
    assert not a.admit("c", bytes(EPOCH_BYTES))
    assert a.admit("b", b"n" * EPOCH_BYTES)


@pytest.mark.parametrize(
    ("keys", "used"),
    [({}, 1), ({1: OLD}, 2), ({1: b"short"}, 1), ({256: OLD}, 256), ({1: OLD, 2: OLD, 3: OLD}, 1)],
)
def test_a_key_ring_that_cannot_work_is_refused(keys, used):
    with pytest.raises(LocalProtocolError):
        KeyRing(keys, used)


def test_a_key_ring_does_not_show_its_keys():
    assert OLD.hex() not in repr(RING)
    assert str(OLD) not in repr(RING)


@UNTIMED
@given(st.lists(st.integers(1, 3 * WINDOW), max_size=60))
def test_the_window_is_a_set_with_a_horizon(counters):
    window, seen = ReplayWindow(), set()

    for counter in counters:
        old = counter <= max(seen, default=0) - WINDOW
        assert (counter not in seen and not old) == window.is_new(counter)
        if window.is_new(counter):
            window.mark(counter)
            seen.add(counter)
