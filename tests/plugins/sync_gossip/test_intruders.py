# SPDX-License-Identifier: Apache-2.0
"""Whatever strangers send to a running member: dropped and counted, and nothing changes."""

import contextlib
import random
import secrets
import socket
from ipaddress import ip_address

import pytest
import trio
from galelb_plugins.sync_gossip import streams as streams_of_members
from galelb_plugins.sync_gossip.messages import Claim, Gossip, Nack, Record, Snapshot, State
from galelb_plugins.sync_gossip.seal import Seal
from galelb_plugins.sync_gossip.wire import MAX_DATAGRAM, MAX_SNAPSHOT, encode
from members import formed, group, until

from galelb.group.handshake import EPOCH_BYTES, HELLO_BYTES, LENGTH_BYTES, PROOF_BYTES, Handshake
from galelb.group.keys import KeyRing
from galelb.group.streams import meet

FOREIGN = KeyRing({0: b"f" * 32}, 0)
STRANGER = "127.0.0.99"
COUNTER = bytes(8)


@contextlib.asynccontextmanager
async def pair(tmp_path):
    """Two members that know each other, with records; both must be as before at the end."""
    async with group(2, tmp_path) as (members, nursery):
        for one in members:
            one.transport.write("key", one.name.encode())
        await formed(members)
        await until(lambda: all(len(one.core.records) == 1 for one in members))
        yield members, nursery
        for one, other in (members, members[::-1]):
            one.transport.write("still", b"works")
            wanted = {"key": one.name.encode(), "still": b"works"}
            await until(
                lambda other=other, one=one, wanted=wanted: other.core.of(one.name) == wanted
            )
        for one in members:
            assert {"m1", "m2"} - {one.name} == set(one.core.peers)
            assert set(one.core.peers) == one.core.alive()


@contextlib.contextmanager
def udp(host=STRANGER):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind((host, 0))
        yield one


async def stream_to(member, host=STRANGER):
    one = trio.socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    await one.bind((host, 0))
    await one.connect((str(member.address[0]), member.address[1]))
    return trio.SocketStream(one)


def sealed(member, message, *, name="m2", ring=None, epoch=None):
    """Return a datagram for a member, as whoever has those keys can make it."""
    seal = Seal(name, member.address, ring or member.member.ring, epoch or bytes(EPOCH_BYTES))
    return seal.seal(member.address, message)


def garbage(target):
    rng = random.Random(7)
    real = sealed(target, Nack(1))
    yield "truncated", b""
    yield "unknown_version", bytes(40)
    yield "truncated", real[:20]
    yield "oversized", real + bytes(MAX_DATAGRAM)
    yield "oversized", bytes([1]) * 60_000
    yield "unknown_version", bytes([2]) + real[1:]
    yield "unknown_key", sealed(target, Nack(1), ring=KeyRing({9: b"f" * 32}, 9))
    yield "stale_epoch", sealed(target, Nack(1), ring=FOREIGN)
    yield "not_challenged", sealed(target, Nack(1), name="stranger")
    yield "reflected", sealed(target, Nack(1), name=target.name)
    for _ in range(200):
        yield None, rng.randbytes(rng.randrange(1, 200))
        at = rng.randrange(len(real))
        yield None, real[:at] + rng.randbytes(1) + real[at + 1 :]


async def test_garbage_is_counted_and_changes_nothing(tmp_path):
    async with pair(tmp_path) as (members, _):
        target = members[0]
        before = target.member.refusals.counts.copy()
        wanted = {}
        with udp() as stranger:
            for reason, data in garbage(target):
                stranger.sendto(data, (str(target.address[0]), target.address[1]))
                if reason:
                    wanted[reason] = wanted.get(reason, 0) + 1
                await trio.lowlevel.checkpoint()
        await until(
            lambda: (
                (target.member.refusals.counts - before).total() >= 400
                and all((target.member.refusals.counts - before)[r] >= n for r, n in wanted.items())
            )
        )


async def test_a_foreign_key_in_the_name_and_epoch_of_a_peer_does_not_open(tmp_path):
    """The name and epoch of a peer are no secrets: they are in each of its datagrams."""
    async with pair(tmp_path) as (members, _):
        target, other = members
        epoch = other.member.streams._epoch
        lie = Gossip((Claim("m2", other.address, 9, State.DEAD), Record("m2", "key", 99, b"lie")))
        seal = Seal("m2", other.address, FOREIGN, epoch)
        for _ in range(5000):
            seal._nonces.next()  # beyond all counters that were seen
        with udp() as stranger:
            data = seal.seal(target.address, lie)
            stranger.sendto(data, (str(target.address[0]), target.address[1]))
        await until(lambda: target.member.refusals.counts["not_authentic"])

        assert [
            f"sync_gossip: what comes from {STRANGER} has another key than this balancer: compare"
            " `galelb group-key show` on both"
        ] == target.transport.notes()


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_replayed_capture_of_all_traffic_changes_nothing(tmp_path, monkeypatch, restarted):
    captured, streams = [], []
    seal, send_all = Seal.seal, trio.SocketStream.send_all

    def capture(self, address, message):
        captured.append((address, seal(self, address, message)))
        return captured[-1][1]

    async def capture_stream(self, data):
        streams.append((self.socket.getpeername(), bytes(data)))
        await send_all(self, data)

    monkeypatch.setattr(Seal, "seal", capture)
    monkeypatch.setattr(trio.SocketStream, "send_all", capture_stream)
    async with pair(tmp_path) as (members, nursery):
        target, other = members
        other.transport.write("key", b"old")
        await until(lambda: target.core.of("m2") == {"key": b"old"})
        other.transport.write("key", b"m2")
        await until(lambda: target.core.of("m2") == {"key": b"m2"})
        await until(lambda: sum(to == target.address for to, _ in captured) >= 5)
        await until(lambda: any(to[0] == str(target.address[0]) for to, _ in streams))
        # A member that starts anew has seen none of the counters. What comes before the answer on
        # its first stream is lost, so it may take that later: it was never taken before.
        old = sum(to == target.address for to, _ in captured)
        if restarted:
            await target.kill()
            target.fresh()
            target.transport.write("key", b"m1")
            await target.start(nursery)
            await formed(members)
        monkeypatch.undo()
        told = len(target.core.events)
        count = target.member.refusals.counts.copy()

        sent = 0
        with udp() as stranger:
            for address, data in captured:
                if address == target.address:
                    stranger.sendto(data, (str(address[0]), address[1]))
                    sent += 1
                    await trio.lowlevel.checkpoint()
        refused = 0
        for to, data in streams:
            if to == (str(target.address[0]), target.address[1]):
                refused += await _replay_stream(target, data)

        reasons = ("replayed", "stale_epoch", "not_challenged")
        await until(
            lambda: (
                sum((target.member.refusals.counts - count)[r] for r in reasons)
                >= (old if restarted else sent)
            )
        )
        assert sent >= 5
        assert refused >= 1
        values = [what[2] for what in target.core.events[told:] if what[:2] == ("m2", "key")]
        assert b"old" not in values


async def _replay_stream(target, data):
    """Send what a connector once sent; return 1 if the member hung up without a word on it."""
    async with await stream_to(target) as stream:
        with contextlib.suppress(trio.BrokenResourceError):
            await stream.send_all(data)
            await stream.send_eof()
        answer = b""
        with contextlib.suppress(trio.BrokenResourceError), trio.fail_after(20):
            while part := await stream.receive_some():
                answer += part
    assert len(answer) <= HELLO_BYTES + PROOF_BYTES
    return 1


async def test_strangers_get_no_further_than_their_proof(tmp_path):
    async with pair(tmp_path) as (members, _):
        target = members[0]
        for data in (b"", b"GET / HTTP/1.1\r\n\r\n", bytes(HELLO_BYTES), bytes(100_000)):
            await _replay_stream(target, data)
        async with await stream_to(target) as stream:
            challenge = secrets.token_bytes(32)
            handshake = Handshake(
                "m9", bytes(16), FOREIGN, challenge, purpose=b"gossip", connects=True
            )
            await stream.send_all(handshake.hello)
            hello = await _exactly(stream, HELLO_BYTES)
            await stream.send_all(handshake.proof(hello))
            rest = await _rest(stream)
            assert len(rest) <= PROOF_BYTES

        await until(lambda: target.member.streams.counts["in", "failed"] >= 5)
        counts = target.member.refusals.counts
        assert counts["not_authentic"] >= 1
        assert counts["unknown_version"] >= 1
        assert counts["truncated"] >= 1


async def test_a_stream_for_another_purpose_is_refused(tmp_path):
    async with pair(tmp_path) as (members, _):
        target = members[0]
        handshake = Handshake(
            "m9",
            bytes(16),
            target.member.ring,
            secrets.token_bytes(32),
            purpose=b"flows",
            connects=True,
        )
        async with await stream_to(target) as stream:
            with pytest.raises(Exception, match=r"not_authentic|truncated"):
                await meet(stream, handshake, 10)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "truncated"),
        (bytes(7), "truncated"),
        (COUNTER, "truncated"),
        (COUNTER + encode(Nack(1)), "unknown_message"),
        (COUNTER + bytes(20), "unknown_version"),
        (COUNTER + encode(Snapshot((), True)) + b"x", "trailing_bytes"),
    ],
)
async def test_nonsense_of_a_member_with_the_key_ends_the_stream(tmp_path, data, reason):
    async with group(1, tmp_path) as (members, _):
        target = members[0]
        async with known(target) as stream:
            await stream.send(data)
            with contextlib.suppress(trio.BrokenResourceError):
                assert await stream.receive() is None

        await until(lambda: target.member.refusals.counts[reason] == 1)
        assert [] == target.core.events


async def test_a_frame_that_is_too_long_ends_the_stream(tmp_path):
    async with group(1, tmp_path) as (members, _):
        target = members[0]
        async with known(target) as stream:
            await stream._stream.send_all((MAX_SNAPSHOT + 25).to_bytes(LENGTH_BYTES, "big"))

            await until(lambda: target.member.refusals.counts["oversized"] == 1)


@contextlib.asynccontextmanager
async def known(target, name="m9"):
    """A stream to a member, of one that has the key."""
    handshake = Handshake(
        name,
        bytes(16),
        target.member.ring,
        secrets.token_bytes(32),
        purpose=b"gossip",
        connects=True,
    )
    async with await stream_to(target) as stream:
        yield await meet(stream, handshake, MAX_SNAPSHOT + 100)


async def test_a_snapshot_in_a_datagram_is_not_taken(tmp_path):
    """Its answer would fit no datagram."""
    async with group(1, tmp_path) as (members, _):
        target = members[0]
        async with known(target) as stream:
            await stream.send(COUNTER + encode(Snapshot((), True)))
            await stream.receive()
        lie = Snapshot((Record("m9", "key", 1, b""), Claim("m9", target.address, 1, 0)), True)
        with udp() as one:
            one.sendto(sealed(target, lie, name="m9"), (str(target.address[0]), 7946))

        await until(lambda: target.member.refusals.counts["unknown_message"] == 1)
        assert [] == target.core.events


async def test_a_flood_of_streams_is_bounded_and_peers_still_get_through(tmp_path, monkeypatch):
    for time in ("_MEET_S", "_EXCHANGE_S"):
        monkeypatch.setattr(streams_of_members, time, 1000.0)  # so nobody is made to let go
    async with pair(tmp_path) as (members, nursery):
        target, other = members
        streams = await flood(target)
        counts = target.member.streams.counts
        await until(lambda: counts["in", "refused"] >= len(streams) - 32)
        assert sum(target.member.streams._doors._open.values()) <= 32 + 64
        served = counts["in", "ok"]

        await other.kill()
        other.fresh()
        other.transport.write("key", b"m2")
        await other.start(nursery)

        await formed(members)
        await until(lambda: counts["in", "ok"] > served)

        for stream in streams:
            await stream.aclose()


async def test_who_says_nothing_loses_its_place(tmp_path):
    async with group(1, tmp_path) as (members, _):
        streams = await flood(members[0])
        places = members[0].member.streams._doors._open
        await until(lambda: len(places) >= 3)

        await until(lambda: not places)

        for stream in streams:
            await stream.aclose()


async def flood(target):
    """Return streams from many addresses, which say nothing."""
    hosts = [f"127.99.0.{number}" for number in range(1, 20)]
    return [await stream_to(target, host) for host in hosts for _ in range(10)]


async def test_one_address_takes_no_more_than_its_share(tmp_path):
    async with group(1, tmp_path) as (members, _):
        target = members[0]
        streams = [await stream_to(target) for _ in range(20)]

        await until(lambda: target.member.streams.counts["in", "refused"] >= 12)

        places = target.member.streams._doors._open
        assert {(False, ip_address(STRANGER)): 8} == dict(places)
        for stream in streams:
            await stream.aclose()
        await until(lambda: not places)


async def test_a_balancer_of_the_same_name_is_told(tmp_path):
    async with group(2, tmp_path, started=1) as (members, nursery):
        twin = members[1]
        twin.name = "m1"
        twin.fresh()
        await twin.start(nursery)

        await until(lambda: any("has the name of this balancer" in one for one in notes(members)))


def notes(members):
    return [text for one in members for text in one.transport.notes()]


async def _exactly(stream, count):
    data = b""
    while len(data) < count:
        data += await stream.receive_some(count - len(data))
    return data


async def _rest(stream):
    data = b""
    with contextlib.suppress(trio.BrokenResourceError), trio.fail_after(20):
        while part := await stream.receive_some():
            data += part
    return data
