# SPDX-License-Identifier: Apache-2.0
"""Streams between balancers: whole messages after a handshake, nothing from strangers."""

import itertools

import pytest
import trio
from trio.testing import memory_stream_pair

from galelb.group.handshake import LENGTH_BYTES, Handshake
from galelb.group.keys import KeyRing
from galelb.group.reader import Unreadable
from galelb.group.streams import meet

RING = KeyRing({1: bytes(32)}, 1)
FOREIGN = KeyRing({1: bytes([1]) * 32}, 1)
CHALLENGES = itertools.count(1)


def handshake(name, *, connects, ring=RING):
    challenge = next(CHALLENGES).to_bytes(32, "big")
    epoch = name.encode() * 16
    return Handshake(name, epoch, ring, challenge, purpose=b"test", connects=connects)


async def pair(most=1000):
    """Return two streams that know each other, and the raw stream below the first."""
    raw, other = memory_stream_pair()
    met = {}

    async def side(name, stream, *, connects):
        met[name] = await meet(stream, handshake(name, connects=connects), most)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: side("a", raw, connects=True))
        nursery.start_soon(lambda: side("b", other, connects=False))
    return met["a"], met["b"], raw


async def test_both_sides_know_each_other_and_talk(autojump_clock):
    a, b, _ = await pair()

    assert ("b", b"b" * 16, "a", b"a" * 16) == (a.peer, a.epoch, b.peer, b.epoch)
    for message in (b"", b"one", bytes(1000)):
        await a.send(message)
        assert message == await b.receive()
    await b.send(b"answer")
    assert b"answer" == await a.receive()


async def test_bytes_may_come_one_by_one(autojump_clock):
    a, b, raw = await pair()
    frames = []
    original = raw.send_all

    async def slowly(data):
        frames.append(data)
        for byte in data:
            await original(bytes([byte]))

    raw.send_all = slowly
    await a.send(b"message")

    assert b"message" == await b.receive()
    assert 1 == len(frames)


async def test_an_end_between_messages_is_told_from_one_within(autojump_clock):
    a, b, raw = await pair()
    await a.send(b"last")
    await raw.send_eof()

    assert b"last" == await b.receive()
    assert await b.receive() is None

    for cut in (LENGTH_BYTES - 1, LENGTH_BYTES, LENGTH_BYTES + 5):
        a, b, raw = await pair()
        frame = a._frames.seal(b"message")
        await raw.send_all(frame[:cut])
        await raw.send_eof()
        with pytest.raises(Unreadable, match="truncated"):
            await b.receive()


async def test_a_frame_that_is_too_long_is_not_read(autojump_clock):
    _, b, raw = await pair(most=10)

    await raw.send_all((27).to_bytes(LENGTH_BYTES, "big"))

    with pytest.raises(Unreadable, match="oversized"):
        await b.receive()


async def test_changed_bytes_end_the_stream(autojump_clock):
    a, b, raw = await pair()
    frame = bytearray(a._frames.seal(b"message"))
    frame[-1] ^= 1
    await raw.send_all(frame)

    with pytest.raises(Unreadable, match="not_authentic"):
        await b.receive()


async def test_a_stranger_is_refused(autojump_clock):
    raw, other = memory_stream_pair()

    async def stranger():
        with pytest.raises(Unreadable, match="not_authentic"):
            await meet(other, handshake("b", connects=False, ring=FOREIGN), 10)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stranger)
        with pytest.raises(Unreadable, match="not_authentic"):
            await meet(raw, handshake("a", connects=True), 10)


@pytest.mark.parametrize("sent", [0, 1, 113, 114, 145])
async def test_a_stream_that_ends_early_is_refused(autojump_clock, sent):
    raw, other = memory_stream_pair()
    await other.send_all(handshake("b", connects=False).hello[:sent].ljust(sent, b"x"))
    await other.send_eof()

    with pytest.raises(Unreadable):
        await meet(raw, handshake("a", connects=True), 10)
