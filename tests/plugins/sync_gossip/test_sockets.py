# SPDX-License-Identifier: Apache-2.0
"""Members on real sockets: they meet, tell, die, return and leave."""

import contextlib
import socket
from functools import partial
from ipaddress import ip_address

import pytest
import trio
from galelb_plugins.sync_gossip.options import GossipOptions
from members import QUICK, Core, formed, group, until

from galelb.errors import GaleError, LocalProtocolError
from galelb.transport import MAX_RECORD_KEY, MAX_RECORD_VALUE, MAX_RECORDS


async def test_all_meet_and_hear_what_each_writes(tmp_path):
    async with group(3, tmp_path) as (members, _):
        members[0].transport.write("early", b"1")
        await formed(members)
        for one in members:
            one.transport.write("key", one.name.encode())

        said = {("m1", "early"): b"1"} | {(one.name, "key"): one.name.encode() for one in members}
        for one in members:
            await until(partial(one.knows, said))


async def test_the_core_hears_of_a_peer_where_it_listens(tmp_path):
    async with group(2, tmp_path) as (members, _):
        await formed(members)
        first, second = members

        peer = first.core.peers["m2"]

        assert second.address == (peer.address, peer.port)
        assert (True, False) == (peer.alive, peer.left)


async def test_the_last_value_wins_and_deletions_are_told(tmp_path):
    async with group(2, tmp_path) as (members, _):
        await formed(members)
        for number in range(50):
            members[0].transport.write("count", str(number).encode())
        members[0].transport.write("gone", b"1")
        await until(lambda: members[1].core.of("m1") == {"count": b"49", "gone": b"1"})

        members[0].transport.write("gone", None)

        await until(lambda: members[1].core.of("m1") == {"count": b"49"})


async def test_a_thousand_records_reach_who_comes_late(tmp_path):
    async with group(3, tmp_path, started=2) as (members, nursery):
        records = {f"node/{number}": bytes(40) for number in range(1000)}
        for key, value in records.items():
            members[0].transport.write(key, value)
        await until(lambda: members[1].core.of("m1") == records)

        await members[2].start(nursery)

        await until(lambda: members[2].core.of("m1") == records)


async def test_a_dead_member_is_told_and_its_records_are_kept(tmp_path):
    async with group(3, tmp_path) as (members, _):
        await formed(members)
        members[2].transport.write("key", b"kept")
        await until(lambda: all(one.core.of("m3") for one in members[:2]))

        await members[2].kill()

        await until(lambda: all("m3" not in one.core.alive() for one in members[:2]))
        for one in members[:2]:
            assert not one.core.peers["m3"].left
            assert {"key": b"kept"} == one.core.of("m3")


async def test_a_member_that_starts_anew_takes_back_what_it_said(tmp_path):
    async with group(3, tmp_path) as (members, nursery):
        await formed(members)
        for key in ("old", "both"):
            members[0].transport.write(key, b"before")
        await until(lambda: all(len(one.core.of("m1")) == 2 for one in members[1:]))

        await members[0].kill()
        members[0].fresh()
        members[0].transport.write("both", b"after")
        await members[0].start(nursery)

        await until(lambda: all(one.core.of("m1") == {"both": b"after"} for one in members[1:]))
        await formed(members)


async def test_a_member_returns_after_its_death(tmp_path):
    async with group(3, tmp_path) as (members, nursery):
        await formed(members)
        await members[1].kill()
        await until(lambda: all("m2" not in one.core.alive() for one in members[::2]))

        members[1].fresh()
        await members[1].start(nursery)

        await formed(members)


async def test_a_leaving_member_is_told_apart_and_its_records_are_deleted(tmp_path):
    async with group(3, tmp_path, options=GossipOptions()) as (members, nursery):
        await formed(members)
        members[2].transport.write("key", b"gone")
        await until(lambda: all(one.core.of("m3") for one in members[:2]))

        await members[2].transport.leave()
        await members[2].kill()

        for one in members[:2]:
            await until(lambda one=one: one.core.peers["m3"].left)
            assert {} == one.core.of("m3")
            told = [what for what in one.core.events if getattr(what, "name", "") == "m3"]
            assert [True, False] == [peer.alive for peer in told]  # nobody took it for dead

        members[2].fresh()
        members[2].transport.write("key", b"back")
        await members[2].start(nursery)

        await formed(members)
        await until(lambda: all(one.core.of("m3") == {"key": b"back"} for one in members[:2]))


async def test_who_was_cut_off_hears_and_tells_what_was_said_meanwhile(tmp_path):
    async with group(3, tmp_path) as (members, _):
        await formed(members)
        for one in members:
            one.transport.write("old", b"1")
        await until(lambda: all(len(one.core.records) == 2 for one in members))

        members[0].cut()
        await until(lambda: not members[0].core.alive())
        await until(lambda: all("m1" not in one.core.alive() for one in members[1:]))
        for one in members:
            assert 2 == len(one.core.records)  # nothing is lost by a cut
            one.transport.write("old", None)
            one.transport.write("new", one.name.encode())
        members[0].heal()

        await formed(members)
        said = {(one.name, "new"): one.name.encode() for one in members}
        for one in members:
            await until(partial(one.knows, said))


async def test_leaving_alone_or_before_the_start_takes_no_longer_than_promised(tmp_path):
    async with group(1, tmp_path) as (members, _):
        with trio.fail_after(10):
            await members[0].transport.leave()
        members[0].fresh()
        await members[0].transport.leave()


async def test_a_port_in_use_is_told(tmp_path):
    async with group(1, tmp_path, started=0) as (members, nursery):
        for kind, word in ((socket.SOCK_DGRAM, "UDP"), (socket.SOCK_STREAM, "TCP")):
            with socket.socket(socket.AF_INET, kind) as other:
                other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                other.bind((str(members[0].address[0]), members[0].address[1]))
                if kind == socket.SOCK_STREAM:
                    other.listen()
                text = f"{word} port 7946 on .*: Address already in use; is another"
                with pytest.raises(GaleError, match=text):
                    await nursery.start(partial(members[0].transport.run))
            members[0].fresh()
        await members[0].start(nursery)


async def test_it_starts_where_nobody_answers(tmp_path):
    async with group(3, tmp_path, started=1) as (members, _):
        members[0].transport.write("key", b"value")

        await until(lambda: members[0].member.streams.counts["out", "failed"] >= 4)

        assert [] == members[0].core.events


@pytest.mark.parametrize(
    ("key", "value"),
    [("", b""), ("k" * (MAX_RECORD_KEY + 1), b""), ("k", bytes(MAX_RECORD_VALUE + 1))],
)
async def test_limits_of_records_are_the_transports(tmp_path, key, value):
    async with group(1, tmp_path, started=0) as (members, _):
        with pytest.raises(LocalProtocolError):
            members[0].transport.write(key, value)
        members[0].transport.write("k" * MAX_RECORD_KEY, bytes(MAX_RECORD_VALUE))


async def test_there_is_room_for_as_many_records_as_promised(tmp_path):
    async with group(1, tmp_path, started=0) as (members, _):
        write = members[0].transport.write
        for number in range(MAX_RECORDS):
            write(str(number), b"")
        with pytest.raises(LocalProtocolError, match="4096 records already"):
            write("more", b"")

        write("7", None)

        write("more", b"")


async def test_members_meet_over_ipv6(tmp_path):
    localhost = ip_address("::1")
    with contextlib.ExitStack() as stack:
        free = [
            stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)) for _ in range(2)
        ]
        for one in free:
            one.bind(("::1", 0))
        ports = [one.getsockname()[1] for one in free]
    async with group(2, tmp_path, options=QUICK, started=0) as (members, nursery):
        for number, member in enumerate(members):
            member.address = localhost, ports[number]
            member.peers = ((localhost, ports[1 - number]),)
            member.fresh()
            await member.start(nursery)
        await formed(members)

        members[0].transport.write("key", b"value")

        await until(lambda: members[1].core.of("m1") == {"key": b"value"})


async def test_callbacks_are_not_called_from_within_write(tmp_path):
    async with group(2, tmp_path) as (members, _):
        await formed(members)
        before = len(members[0].core.events)
        for number in range(100):
            members[0].transport.write("key", str(number).encode())
            assert before == len(members[0].core.events)


async def test_what_a_callback_writes_is_told(tmp_path):
    """The core answers some news with a record of its own, from within the callback."""
    async with group(2, tmp_path, started=0) as (members, nursery):
        first, second = members

        class Answering(Core):
            def record_changed(self, name, key, value):
                super().record_changed(name, key, value)
                first.transport.write("answer", value)

        first.core = Answering()
        context = first.transport.context
        changed = {"peer_changed": first.core.peer_changed}
        changed["record_changed"] = first.core.record_changed
        first.transport = type(first.transport)(
            first.options,
            context.__class__(
                name=context.name,
                address=context.address,
                port=context.port,
                peers=context.peers,
                directory=context.directory,
                **changed,
            ),
        )
        for one in members:
            await one.start(nursery)

        second.transport.write("question", b"?")

        await until(lambda: second.core.of("m1") == {"answer": b"?"})
