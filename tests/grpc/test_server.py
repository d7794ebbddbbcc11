# SPDX-License-Identifier: Apache-2.0
"""The server against peers good, bad and silent; in memory and in virtual time."""

import random
from ipaddress import ip_address

import attrs
import h2.errors
import h2.events
import h2.settings
import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from galelb.grpc.client import Channel
from galelb.grpc.framing import CallError, StatusCode, encode_message, header_dict, request_headers
from galelb.grpc.limits import LinkLimits
from galelb.grpc.server import Server, ServerLimits, unary

A = ip_address("10.0.0.1")
B = ip_address("10.0.0.2")
ends = []


async def echo(call, address):
    del address
    try:
        while (message := await call.receive()) is not None:
            await call.send(message)
    except CallError as error:
        ends.append(error)
        raise
    ends.append(None)


async def broken(call, address):
    raise RuntimeError("oops")


async def refusing(call, address):
    raise CallError(StatusCode.RESOURCE_EXHAUSTED, "full")


def make(**limits):
    link = {k: limits.pop(k) for k in list(limits) if k in attrs.fields_dict(LinkLimits)}
    return Server(
        {
            "/S/Echo": echo,
            "/S/Broken": broken,
            "/S/Refusing": refusing,
            "/S/Upper": unary(lambda request, address: request.upper() + str(address).encode()),
        },
        ServerLimits(link=LinkLimits(**link), **limits),
    )


@pytest.fixture(autouse=True)
def _no_ends():
    ends.clear()


async def channel_to(nursery, server, address=A):
    ours, theirs = trio.testing.memory_stream_pair()
    nursery.start_soon(server.serve_stream, theirs, address)
    channel = Channel(ours, "test")
    await channel.start(nursery)
    return channel


async def status_of(client):
    """Return the grpc-status that the server ends a call with."""
    while True:
        for event in client.events:
            if isinstance(event, h2.events.TrailersReceived | h2.events.ResponseReceived):
                headers = header_dict(event.headers)
                if b"grpc-status" in headers:
                    return StatusCode(int(headers[b"grpc-status"]))
        assert not client.eof
        await client.read()


class TestCalls:
    async def test_unary(self, nursery, autojump_clock, peer):
        channel = await channel_to(nursery, make())

        assert b"HI10.0.0.1" == await channel.unary("/S/Upper", b"hi")

    async def test_a_stream_goes_both_ways_and_ends(self, nursery, autojump_clock, peer):
        channel = await channel_to(nursery, make())
        call = channel.stream("/S/Echo")

        got = []
        for number in range(100):
            await call.send(b"%d" % number)
            got.append(await call.receive())
        call.end()

        assert [b"%d" % number for number in range(100)] == got
        assert await call.receive() is None
        assert [None] == ends

    async def test_pipelined_messages_beyond_every_window(self, nursery, autojump_clock, peer):
        channel = await channel_to(nursery, make())
        call = channel.stream("/S/Echo")
        payload = b"x" * 65536
        got = []

        async def send():
            for _ in range(30):
                await call.send(payload)
            call.end()

        nursery.start_soon(send)
        while (message := await call.receive()) is not None:
            got.append(message)

        assert [payload] * 30 == got

    async def test_many_calls_at_a_time(self, nursery, autojump_clock, peer):
        channel = await channel_to(nursery, make())
        calls = [channel.stream("/S/Echo") for _ in range(100)]
        for number, call in enumerate(calls):
            await call.send(b"%d" % number)

        got = [await call.receive() for call in calls]

        assert [b"%d" % number for number in range(100)] == got

    @pytest.mark.parametrize(
        ("path", "code", "text"),
        [
            ("/S/Nothing", StatusCode.UNIMPLEMENTED, "no such method: /S/Nothing"),
            ("/S/Refusing", StatusCode.RESOURCE_EXHAUSTED, "full"),
            (
                "/S/Broken",
                StatusCode.INTERNAL,
                "the handler failed; the log of the server says more",
            ),
        ],
    )
    async def test_calls_that_fail(self, nursery, autojump_clock, peer, path, code, text):
        channel = await channel_to(nursery, make())

        with capture_logs(), pytest.raises(CallError) as caught:
            await channel.unary(path, b"")

        assert (code, text) == (caught.value.code, caught.value.message)

    async def test_a_failing_handler_is_logged_and_costs_only_its_call(
        self, nursery, autojump_clock, peer
    ):
        channel = await channel_to(nursery, make())
        with capture_logs() as logs, pytest.raises(CallError):
            await channel.unary("/S/Broken", b"")

        assert ["grpc_handler_failed"] == [entry["event"] for entry in logs]
        assert b"X10.0.0.1" == await channel.unary("/S/Upper", b"x")

    async def test_a_call_without_a_message(self, nursery, autojump_clock, peer):
        channel = await channel_to(nursery, make())
        call = channel.stream("/S/Upper")
        call.end()

        with pytest.raises(CallError, match="no request message"):
            await call.receive()

    async def test_too_long_a_message_ends_only_its_call(self, nursery, autojump_clock, peer):
        channel = await channel_to(nursery, make())

        with pytest.raises(CallError, match="RESOURCE_EXHAUSTED: message of 65537 bytes"):
            await channel.unary("/S/Upper", b"x" * 65537)
        assert b"X10.0.0.1" == await channel.unary("/S/Upper", b"x")

    async def test_a_cancelled_call_ends_its_handler(self, nursery, autojump_clock, peer):
        channel = await channel_to(nursery, make())
        call = channel.stream("/S/Echo")
        await call.send(b"1")
        await call.receive()

        call.cancel()
        await trio.testing.wait_all_tasks_blocked()

        assert [StatusCode.CANCELLED] == [error.code for error in ends]
        assert channel.closed is None

    async def test_a_deadline_ends_the_call_on_both_sides(self, nursery, autojump_clock, peer):
        client = peer.connect(nursery, make(), A)
        await client.greet()
        await client.call("/S/Echo", extra=[(b"grpc-timeout", b"2S")])

        began = trio.current_time()
        status = await status_of(client)
        await trio.testing.wait_all_tasks_blocked()

        assert StatusCode.DEADLINE_EXCEEDED == status
        assert 2.0 == trio.current_time() - began
        assert [StatusCode.DEADLINE_EXCEEDED] == [error.code for error in ends]

    async def test_a_request_that_is_no_grpc(self, nursery, autojump_clock, peer):
        client = peer.connect(nursery, make(), A)
        await client.greet()
        client.conn.send_headers(
            1,
            [
                (b":method", b"GET"),
                (b":scheme", b"http"),
                (b":path", b"/"),
                (b":authority", b"x"),
            ],
            end_stream=True,
        )
        await client.flush()

        event = await client.read_until(h2.events.ResponseReceived)

        assert b"415" == header_dict(event.headers)[b":status"]

    async def test_a_bad_timeout_is_told(self, nursery, autojump_clock, peer):
        client = peer.connect(nursery, make(), A)
        await client.greet()
        await client.call("/S/Echo", extra=[(b"grpc-timeout", b"soon")])

        assert StatusCode.INVALID_ARGUMENT == await status_of(client)

    async def test_a_stream_that_ends_within_a_message(self, nursery, autojump_clock, peer):
        client = peer.connect(nursery, make(), A)
        await client.greet()
        await client.call("/S/Echo", encode_message(b"hello")[:-1], end=True)
        await trio.testing.wait_all_tasks_blocked()

        assert [StatusCode.INTERNAL] == [error.code for error in ends if error]

    async def test_no_call_is_left_behind(self, nursery, autojump_clock, peer):
        channel = await channel_to(nursery, make())
        for _ in range(20):
            await channel.unary("/S/Upper", b"x")
            with pytest.raises(CallError):
                await channel.unary("/S/Refusing", b"x")

        assert {} == channel._link.calls


class TestStop:
    async def test_says_goodbye_to_everybody_and_is_quick(self, nursery, autojump_clock, peer):
        server = make()
        ours, theirs = trio.testing.memory_stream_pair()
        stop = trio.CancelScope()

        async def serve():
            with stop:
                await server.serve_stream(theirs, A)

        nursery.start_soon(serve)
        client = peer.RawClient(ours)
        await client.greet()
        await client.call("/S/Echo", encode_message(b"1"))
        await client.read_until(h2.events.DataReceived)

        began = trio.current_time()
        stop.cancel()
        await client.read_all()

        kinds = [type(event) for event in client.events]
        assert h2.events.TrailersReceived in kinds
        assert h2.events.ConnectionTerminated in kinds
        assert StatusCode.UNAVAILABLE == await status_of(client)
        assert trio.current_time() - began < 1

    async def test_a_peer_that_does_not_read_cannot_hold_it_up(self, nursery, autojump_clock, peer):
        ours, theirs = trio.testing.lockstep_stream_pair()
        del ours
        server = make()

        with trio.move_on_after(3) as scope:
            await server.serve_stream(theirs, A)

        assert scope.cancelled_caught
        assert trio.current_time() <= scope.deadline + 1

    async def test_the_agents_side_sees_unavailable(self, nursery, autojump_clock, peer):
        server = make()
        ours, theirs = trio.testing.memory_stream_pair()
        stop = trio.CancelScope()

        async def serve():
            with stop:
                await server.serve_stream(theirs, A)

        nursery.start_soon(serve)
        channel = Channel(ours, "test")
        await channel.start(nursery)
        call = channel.stream("/S/Echo")
        await call.send(b"1")
        await call.receive()

        stop.cancel()

        with pytest.raises(CallError, match="UNAVAILABLE"):
            await call.receive()


class TestBadPeers:
    async def test_garbage_ends_the_connection_alone(self, nursery, autojump_clock, peer):
        server = make()
        good = await channel_to(nursery, server, B)
        client = peer.connect(nursery, server, A)

        await client.stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
        while await client.stream.receive_some(65536):
            pass

        assert b"X10.0.0.2" == await good.unary("/S/Upper", b"x")
        assert 1 == server.connections

    async def test_random_bytes_after_the_preface(self, nursery, autojump_clock, peer):
        rng = random.Random(7)
        server = make()
        for number in range(200):
            client = peer.connect(nursery, server, ip_address(f"10.0.1.{number}"))
            client.conn.initiate_connection()
            noise = bytearray(client.conn.data_to_send())
            for _ in range(rng.randrange(1, 4)):
                noise[rng.randrange(len(noise))] = rng.randrange(256)
            noise += rng.randbytes(rng.randrange(100))
            await client.stream.send_all(noise)
            await client.stream.send_eof()
        await trio.testing.wait_all_tasks_blocked()

        assert 0 == server.connections

    async def test_mutated_calls(self, nursery, autojump_clock, peer):
        """Whatever a peer makes of a good conversation, the server lives and forgets it."""
        rng = random.Random(11)
        server = make()
        with capture_logs() as logs:
            for number in range(300):
                client = peer.connect(nursery, server, A + number)
                await client.greet()
                client.conn.send_headers(1, [(b":method", b"POST"), (b":path", b"/S/Echo"),
                    (b":scheme", b"http"), (b":authority", b"x"),
                    (b"content-type", b"application/grpc")])  # fmt: skip
                client.conn.send_data(1, encode_message(b"x" * 50))
                client.conn.ping(b"12345678")
                client.conn.reset_stream(1)
                wire = bytearray(client.conn.data_to_send())
                wire[rng.randrange(len(wire))] = rng.randrange(256)
                await client.stream.send_all(wire)
                await client.stream.send_eof()
            await trio.testing.wait_all_tasks_blocked()

        assert 0 == server.connections
        assert [] == [entry for entry in logs if entry["log_level"] == "error"]

    async def test_silence_instead_of_a_handshake(self, nursery, autojump_clock, peer):
        server = make(handshake_timeout=5)
        client = peer.connect(nursery, server, A)

        await client.read_all()

        assert 5.0 == trio.current_time()

    async def test_a_half_open_connection_is_found_by_ping(self, nursery, autojump_clock, peer):
        server = make(keepalive_interval=5, keepalive_timeout=3)
        client = peer.connect(nursery, server, A)
        await client.greet()
        await client.call("/S/Echo")
        client.flush = None  # it never answers again

        await client.read_all()

        assert h2.events.PingReceived in {type(event) for event in client.events}
        assert trio.current_time() <= 5 + 5 + 3
        assert ["no answer to PING"] == [error.message for error in ends]

    async def test_a_living_silent_connection_stays(self, nursery, autojump_clock, peer):
        server = make(keepalive_interval=5, keepalive_timeout=3)
        channel = await channel_to(nursery, server)
        call = channel.stream("/S/Echo")
        await call.send(b"1")
        await call.receive()

        await trio.sleep(1000)
        await call.send(b"2")

        assert b"2" == await call.receive()

    async def test_a_connection_without_calls_is_closed(self, nursery, autojump_clock, peer):
        server = make(idle_timeout=60)
        channel = await channel_to(nursery, server)
        await channel.unary("/S/Upper", b"x")

        await trio.sleep(70)

        assert 0 == server.connections
        assert "the other side said goodbye" == channel.closed

    async def test_a_peer_that_does_not_read_is_dropped(self, nursery, autojump_clock, peer):
        ours, theirs = trio.testing.lockstep_stream_pair()
        server = make(write_timeout=10)
        nursery.start_soon(server.serve_stream, theirs, A)
        await trio.sleep(10.1)

        assert 0 == server.connections
        await ours.aclose()

    async def test_a_peer_that_gives_no_window_holds_up_only_its_own_call(
        self, nursery, autojump_clock, peer
    ):
        server = make()
        client = peer.connect(nursery, server, A)
        client.conn.local_settings = h2.settings.Settings(
            initial_values={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 10}
        )
        await client.greet()
        await client.call("/S/Echo", encode_message(b"x" * 1000))
        await client.call("/S/Upper", encode_message(b"y"), end=True)

        event = await client.read_until(h2.events.DataReceived)
        other = await client.read_until(h2.events.DataReceived)

        assert {1, 3} == {event.stream_id, other.stream_id}

    async def test_rapid_resets_are_stopped(self, nursery, autojump_clock, peer):
        server = make(resets_per_s=20)
        client = peer.connect(nursery, server, A)
        await client.greet()
        count = 0
        while not client.eof and count < 1000:
            count += 1
            try:
                stream_id = await client.call("/S/Echo")
                client.conn.reset_stream(stream_id)
                await client.flush()
            except (h2.exceptions.ProtocolError, trio.BrokenResourceError):
                break
            with trio.move_on_after(0):
                await client.read()
        await client.read_all()

        ended = [e for e in client.events if isinstance(e, h2.events.ConnectionTerminated)]
        assert [h2.errors.ErrorCodes.ENHANCE_YOUR_CALM] == [e.error_code for e in ended]
        assert count < 250

    async def test_a_flood_of_pings_is_stopped(self, nursery, autojump_clock, peer):
        server = make(controls_per_s=20)
        client = peer.connect(nursery, server, A)
        await client.greet()
        for _ in range(300):
            client.conn.ping(b"floodddd")
        await client.flush()

        await client.read_all()

        ended = [e for e in client.events if isinstance(e, h2.events.ConnectionTerminated)]
        assert [h2.errors.ErrorCodes.ENHANCE_YOUR_CALM] == [e.error_code for e in ended]

    async def test_empty_data_frames_are_stopped(self, nursery, autojump_clock, peer):
        server = make(controls_per_s=20)
        client = peer.connect(nursery, server, A)
        await client.greet()
        stream_id = await client.call("/S/Echo")
        for _ in range(300):
            client.conn.send_data(stream_id, b"")
        await client.flush()

        await client.read_all()

        assert ["the other side sends too many empty frames"] == [e.message for e in ends]

    async def test_a_flood_that_is_not_read_costs_bounded_memory(
        self, nursery, autojump_clock, peer
    ):
        """What a peer's PINGs make us answer must not pile up while it does not read."""
        ours, theirs = trio.testing.lockstep_stream_pair()
        server = make(controls_per_s=1e9, write_timeout=10)
        nursery.start_soon(server.serve_stream, theirs, A)
        client = peer.RawClient(ours)
        sent = 0
        client.conn.initiate_connection()
        with trio.move_on_after(5):
            while True:
                client.conn.ping(b"floodddd")
                await client.flush()
                sent += 1

        assert sent < 20

    async def test_too_many_calls_at_a_time(self, nursery, autojump_clock, peer):
        server = make(max_streams=5)
        client = peer.connect(nursery, server, A)
        await client.greet()
        for _ in range(6):
            await client.call("/S/Echo")

        await client.read_all()
        await trio.testing.wait_all_tasks_blocked()

        assert any(isinstance(e, h2.events.ConnectionTerminated) for e in client.events)
        assert 0 == server.connections


class TestConnectionLimits:
    async def test_one_address_cannot_take_all(self, nursery, autojump_clock, peer):
        server = make(max_connections_per_address=3, max_connections=100)
        clients = [peer.connect(nursery, server, A) for _ in range(10)]
        with capture_logs() as logs:
            await trio.testing.wait_all_tasks_blocked()
        other = await channel_to(nursery, server, B)

        assert b"X10.0.0.2" == await other.unary("/S/Upper", b"x")
        assert 4 == server.connections
        assert [1, 2, 4] == [entry["times"] for entry in logs if entry["event"] == "grpc_refused"]
        del clients

    async def test_all_together_are_bounded_and_a_place_is_given_back(
        self, nursery, autojump_clock, peer
    ):
        server = make(max_connections=2)
        clients = [
            peer.connect(nursery, server, ip_address(f"10.0.1.{number}")) for number in range(5)
        ]
        with capture_logs():
            await trio.testing.wait_all_tasks_blocked()
        before = server.connections
        for client in clients:
            await client.stream.aclose()
        await trio.testing.wait_all_tasks_blocked()

        channel = await channel_to(nursery, server, B)
        assert (2, b"X10.0.0.2") == (before, await channel.unary("/S/Upper", b"x"))


class TestSockets:
    async def test_serves_real_sockets_and_knows_the_peer(self, nursery):
        server = make()
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        await nursery.start(server.serve, listeners)

        async with trio.open_nursery() as inner:
            channel = Channel(await trio.open_tcp_stream("127.0.0.1", port), "test")
            await channel.start(inner)
            answer = await channel.unary("/S/Upper", b"x")
            inner.cancel_scope.cancel()

        assert b"X127.0.0.1" == answer
        nursery.cancel_scope.cancel()


async def test_calls_of_one_address_are_bounded_over_its_connections(nursery, autojump_clock):
    server = make(max_calls_per_address=5)
    channels = [await channel_to(nursery, server) for _ in range(2)]
    calls = [channels[turn % 2].stream("/S/Echo") for turn in range(5)]
    for call in calls:
        await call.send(b"1")
        await call.receive()

    with pytest.raises(CallError, match="RESOURCE_EXHAUSTED: too many calls of this address"):
        await channels[0].unary("/S/Upper", b"x")
    other = await channel_to(nursery, server, B)
    assert b"X10.0.0.2" == await other.unary("/S/Upper", b"x")
    calls[0].end()
    assert await calls[0].receive() is None
    assert b"X10.0.0.1" == await channels[0].unary("/S/Upper", b"x")


async def test_opening_calls_for_ever_is_stopped(nursery, autojump_clock, peer):
    server = make(calls_per_s=20, max_streams=1000)
    client = peer.connect(nursery, server, A)
    await client.greet()
    client.conn.remote_settings.max_concurrent_streams = 1000
    for number in range(300):
        client.conn.send_headers(1 + 2 * number, request_headers("/S/Nothing", "x"), True)
    await client.flush()

    await client.read_all()

    ended = [e for e in client.events if isinstance(e, h2.events.ConnectionTerminated)]
    assert [h2.errors.ErrorCodes.ENHANCE_YOUR_CALM] == [e.error_code for e in ended]
