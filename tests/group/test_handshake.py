# SPDX-License-Identifier: Apache-2.0
"""The challenge over TCP fixes the peer's epoch; it cannot be recorded, reflected or forged."""

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from galelb.errors import LocalProtocolError
from galelb.group.handshake import (
    FRAME_OVERHEAD,
    HELLO_BYTES,
    LENGTH_BYTES,
    PROOF_BYTES,
    Handshake,
)
from galelb.group.keys import KeyRing
from galelb.group.reader import Unreadable

UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
OLD, NEW, FOREIGN = (bytes([number]) * 32 for number in (1, 2, 3))
RING = KeyRing({1: OLD}, 1)
CHALLENGES = itertools.count(1)
MOST = 1000


def side(name, *, connects, ring=RING, purpose=b"gossip"):
    challenge = next(CHALLENGES).to_bytes(32, "big")
    epoch = name.encode() * 16
    return Handshake(name, epoch, ring, challenge, purpose=purpose, connects=connects)


def both(ring=RING, other=RING):
    a, b = side("a", connects=True, ring=ring), side("b", connects=False, ring=other)
    assert HELLO_BYTES == len(a.hello) == len(b.hello)
    proof_of_b, proof_of_a = b.proof(a.hello), a.proof(b.hello)
    assert PROOF_BYTES == len(proof_of_a) == len(proof_of_b)
    return a, b, proof_of_a, proof_of_b


def done(**rings):
    a, b, proof_of_a, proof_of_b = both(**rings)
    assert ("b", b"b" * 16) == a.verify(proof_of_b)
    assert ("a", b"a" * 16) == b.verify(proof_of_a)
    return a.frames(MOST), b.frames(MOST)


def test_both_learn_the_others_epoch_and_talk():
    a, b = done()

    for message in (b"1", b"", bytes(MOST)):
        assert message == b.open(a.seal(message)[LENGTH_BYTES:])
    assert b"answer" == a.open(b.seal(b"answer")[LENGTH_BYTES:])


def test_a_frame_begins_with_its_length():
    a, _ = done()

    frame = a.seal(b"message")

    assert FRAME_OVERHEAD + len(b"message") == len(frame) - LENGTH_BYTES
    assert len(frame) - LENGTH_BYTES == a.length(frame[:LENGTH_BYTES])


@pytest.mark.parametrize("used", [1, 2])
def test_it_works_while_keys_are_changed(used):
    done(ring=KeyRing({1: OLD, 2: NEW}, used), other=KeyRing({1: OLD, 2: NEW}, 3 - used))


def test_a_stranger_is_refused_on_both_sides():
    a, b, proof_of_a, proof_of_b = both(other=KeyRing({1: FOREIGN}, 1))

    for one, proof in ((a, proof_of_b), (b, proof_of_a)):
        with pytest.raises(Unreadable, match="not_authentic"):
            one.verify(proof)


def test_a_key_that_is_not_there_is_refused():
    a, b = side("a", connects=True), side("b", connects=False, ring=KeyRing({2: NEW}, 2))

    with pytest.raises(Unreadable, match="unknown_key"):
        b.proof(a.hello)


def test_a_recorded_handshake_proves_nothing():
    a, _, proof_of_a, _ = both()
    b = side("b", connects=False)

    b.proof(a.hello)

    with pytest.raises(Unreadable, match="not_authentic"):
        b.verify(proof_of_a)


def test_what_one_says_is_not_taken_from_a_mirror():
    a = side("a", connects=True)
    with pytest.raises(Unreadable, match="reflected"):
        a.proof(a.hello)

    a, _, proof_of_a, _ = both()
    with pytest.raises(Unreadable, match="not_authentic"):
        a.verify(proof_of_a)

    frames, _ = done()
    with pytest.raises(Unreadable, match="not_authentic"):
        frames.open(frames.seal(b"1")[LENGTH_BYTES:])


def test_a_frame_opens_only_in_its_place():
    a, b = done()
    first, second = a.seal(b"1")[LENGTH_BYTES:], a.seal(b"2")[LENGTH_BYTES:]

    with pytest.raises(Unreadable, match="not_authentic"):
        b.open(second)

    a, b = done()
    first = a.seal(b"1")[LENGTH_BYTES:]
    assert b"1" == b.open(first)
    with pytest.raises(Unreadable, match="not_authentic"):
        b.open(first)


def test_a_frame_of_another_stream_does_not_open():
    a, _ = done()
    _, b = done()

    with pytest.raises(Unreadable, match="not_authentic"):
        b.open(a.seal(b"1")[LENGTH_BYTES:])


def test_frames_are_bounded():
    a, _ = done()

    with pytest.raises(LocalProtocolError, match="1001 bytes, at most 1000"):
        a.seal(bytes(MOST + 1))
    assert MOST + FRAME_OVERHEAD == a.length((MOST + FRAME_OVERHEAD).to_bytes(4, "big"))
    with pytest.raises(Unreadable, match="oversized"):
        a.length((MOST + FRAME_OVERHEAD + 1).to_bytes(4, "big"))
    with pytest.raises(Unreadable, match="oversized"):
        a.open(bytes(MOST + FRAME_OVERHEAD + 1))


def test_a_stream_of_one_use_is_refused_by_another():
    a, b = side("a", connects=True), side("b", connects=False, purpose=b"flows")
    proof_of_b, proof_of_a = b.proof(a.hello), a.proof(b.hello)

    for one, proof in ((a, proof_of_b), (b, proof_of_a)):
        with pytest.raises(Unreadable, match="not_authentic"):
            one.verify(proof)


@UNTIMED
@given(st.binary(max_size=HELLO_BYTES + 1) | st.binary(min_size=HELLO_BYTES, max_size=HELLO_BYTES))
def test_garbage_is_no_hello(data):
    with pytest.raises(Unreadable):
        side("a", connects=False).proof(b"\x01" + data if data[:1] == b"\x01" else data)


@UNTIMED
@given(st.integers(0, HELLO_BYTES - 1), st.integers(1, 255))
def test_a_changed_hello_leads_nowhere(at, change):
    a, b = side("a", connects=True), side("b", connects=False)
    changed = bytearray(a.hello)
    changed[at] ^= change

    def run():
        b.proof(bytes(changed))
        b.verify(a.proof(b.hello))

    with pytest.raises(Unreadable):
        run()
