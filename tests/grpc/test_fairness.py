# SPDX-License-Identifier: Apache-2.0
"""No address takes more than its share: of time, of places, of the log."""

from ipaddress import ip_address

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from galelb.grpc import link as link_module
from galelb.grpc.admission import Admission
from galelb.grpc.client import Channel
from galelb.grpc.framing import CallError, StatusCode
from galelb.grpc.limits import LinkLimits, ServerLimits, Share
from galelb.grpc.server import Server, unary

A = ip_address("10.0.0.1")
B = ip_address("10.0.0.2")


class TestShare:
    def test_an_unused_share_has_its_burst(self):
        share = Share(rate=0.1, burst=0.5)
        share.spend(0.4, 10.0)

        assert not share.overdrawn(10.0)

    def test_more_than_the_burst_is_overdrawn_until_it_is_paid(self):
        share = Share(rate=0.1, burst=0.5)
        share.spend(0.75, 10.0)

        assert share.overdrawn(10.0)
        assert 2.5 == pytest.approx(share.pause(10.0), abs=0.01)
        assert share.overdrawn(12.4)
        assert not share.overdrawn(12.6)

    def test_debts_are_bounded(self):
        share = Share(rate=0.1, burst=0.5)
        for _ in range(100):
            share.spend(10.0, 10.0)

        assert 2.5 == pytest.approx(share.pause(10.0), abs=0.01)

    def test_it_fills_up_to_the_burst_and_no_further(self):
        share = Share(rate=0.1, burst=0.5)
        share.spend(0.1, 10.0)
        share.spend(0.5, 1000.0)

        assert share.overdrawn(1000.0)

    def test_a_clock_that_goes_back_gives_nothing(self):
        share = Share(rate=0.1, burst=0.5)
        share.spend(0.5, 100.0)
        share.overdrawn(50.0)

        assert share.overdrawn(100.0)

    def test_it_may_be_forgotten_when_nothing_is_owed(self):
        share = Share(rate=0.1, burst=0.5)
        share.spend(0.1, 10.0)

        assert [False, True] == [share.idle(10.5), share.idle(11.1)]


class Time:
    """Stands for the time of the CPU: each look at it takes a while."""

    def __init__(self, step):
        self.now, self.step = 0.0, step

    def thread_time(self):
        self.now += self.step
        return self.now


@pytest.fixture
def server():
    limits = ServerLimits(time_share=0.05, time_burst=0.1)
    return Server({"/S/Upper": unary(lambda request, address: request.upper())}, limits)


async def channel_to(nursery, server, address):
    ours, theirs = trio.testing.memory_stream_pair()
    nursery.start_soon(server.serve_stream, theirs, address)
    channel = Channel(ours, "test")
    await channel.start(nursery)
    return channel


async def test_who_costs_much_is_worked_for_later_over_all_connections(
    server, nursery, autojump_clock, monkeypatch
):
    """Each read costs 20 ms of 50 ms per second: after the first 100 ms comes one in 0.4 s."""
    monkeypatch.setattr(link_module, "time", Time(0.02))
    channels = [await channel_to(nursery, server, A) for _ in range(2)]
    began = trio.current_time()
    for turn in range(20):
        await channels[turn % 2].unary("/S/Upper", b"x")

    assert trio.current_time() - began > 20 * 0.3


async def test_others_do_not_wait_for_them(server, nursery, autojump_clock, monkeypatch):
    monkeypatch.setattr(link_module, "time", Time(0.5))
    greedy = await channel_to(nursery, server, A)
    nursery.start_soon(swallow, greedy)
    await trio.sleep(0.1)
    monkeypatch.setattr(link_module, "time", Time(0.0))
    began = trio.current_time()

    assert b"X" == await (await channel_to(nursery, server, B)).unary("/S/Upper", b"x")

    assert began == trio.current_time()


async def swallow(channel):
    for _ in range(10):
        await channel.unary("/S/Upper", b"x")


class TestAdmission:
    def admission(self, room=(), **limits):
        rooms = list(room)
        return Admission(ServerLimits(**limits), lambda: rooms.pop() if rooms else False)

    def test_places_are_counted_and_given_back(self):
        admission = self.admission(max_connections=2)
        with capture_logs():
            got = [admission.enter(A, 0), admission.enter(B, 0), admission.enter(B, 0)]
        admission.leave(A)

        assert [True, True, False] == got
        assert admission.enter(B, 0)
        assert 2 == admission.count

    def test_when_all_are_taken_an_idle_one_makes_room(self):
        admission = self.admission(room=[True], max_connections=1)
        with capture_logs():
            got = [admission.enter(A, 0), admission.enter(B, 0), admission.enter(B, 0)]

        assert [True, True, False] == got

    def test_no_room_is_made_for_an_address_that_has_too_many(self):
        admission = self.admission(room=[True], max_connections=1, max_connections_per_address=1)
        with capture_logs():
            got = [admission.enter(A, 0), admission.enter(A, 0), admission.enter(B, 0)]

        assert [True, False, True] == got

    def test_who_has_used_up_its_share_does_not_come_in(self):
        admission = self.admission()
        admission.share(A, 0).spend(2.0, 0)
        with capture_logs() as logs:
            got = [admission.enter(A, 0), admission.enter(B, 0), admission.enter(A, 60)]

        assert [False, True, True] == got
        assert ["it takes too much time"] == [entry["reason"] for entry in logs]

    def test_connecting_itself_is_charged(self):
        admission = self.admission()
        with capture_logs():
            entered = sum(admission.enter(A, 0) and not admission.leave(A) for _ in range(3000))

        assert 2000 == pytest.approx(entered, abs=1)

    def test_what_is_remembered_of_strangers_is_bounded(self):
        admission = self.admission(max_connections=1)
        for number in range(20_000):
            admission.share(A + number, 0).spend(1.0, 0)
        with capture_logs() as logs:
            for number in range(5000):
                admission.refuse(A + number, "no")

        assert len(admission._shares) <= 8192
        assert len(admission._refusals) <= 1024
        assert 5000 == len(logs)

    def test_a_flood_from_one_address_does_not_flood_the_log(self):
        with capture_logs() as logs:
            for _ in range(1000):
                self.flooded.refuse(A, "no")

        assert [1 << n for n in range(10)] == [entry["times"] for entry in logs]

    flooded = Admission(ServerLimits(), lambda: False)


class TestConsume:
    """A handler that is handed messages where they are read."""

    @pytest.fixture
    def talk(self, nursery, autojump_clock):
        async def start(handler):
            server = Server({"/S/Talk": handler})
            channel = await channel_to(nursery, server, A)
            return channel.stream("/S/Talk")

        return start

    async def test_gets_every_message_and_the_end(self, talk):
        got, ends = [], []

        async def handler(call, peer):
            ends.append(await call.consume(lambda payload: not got.append(payload)))
            await call.send(b"done")

        call = await talk(handler)
        for number in range(500):
            await call.send(b"%d" % number)
        call.end()

        assert b"done" == await call.receive()
        assert [b"%d" % number for number in range(500)] == got
        assert [False] == ends

    async def test_stops_when_it_has_enough_and_the_rest_waits(self, talk):
        got, ends = [], []

        async def handler(call, peer):
            ends.append(
                await call.consume(lambda payload: not got.append(payload) and len(got) < 3)
            )
            ends.append(list(got))
            while (rest := await call.receive()) is not None:
                got.append(rest)
            await call.send(b"done")

        call = await talk(handler)
        for number in range(6):
            await call.send(b"%d" % number)
        call.end()
        await call.receive()

        assert [True, [b"0", b"1", b"2"]] == ends
        assert [b"0", b"1", b"2", b"3", b"4", b"5"] == got

    async def test_may_answer_from_there(self, talk):
        async def handler(call, peer):
            await call.consume(lambda payload: call.send_nowait(payload.upper()))

        call = await talk(handler)
        await call.send(b"a")

        assert b"A" == await call.receive()

    @pytest.mark.parametrize(
        "error", [CallError(StatusCode.ABORTED, "enough"), RuntimeError("a bug")]
    )
    async def test_what_it_raises_is_the_handlers_and_not_the_links(self, talk, error):
        raised = []

        def take(payload):
            raise error

        async def handler(call, peer):
            try:
                await call.consume(take)
            except Exception as caught:
                raised.append(caught)
                raise CallError(StatusCode.FAILED_PRECONDITION, "stop") from None

        call = await talk(handler)
        await call.send(b"a")
        with pytest.raises(CallError, match="stop"):
            await call.receive()

        assert [error] == raised

    async def test_a_failed_call_is_raised(self, talk):
        ends = []

        async def handler(call, peer):
            try:
                await call.consume(lambda payload: True)
            except CallError as error:
                ends.append(error.code.name)

        call = await talk(handler)
        await call.send(b"a")
        await trio.testing.wait_all_tasks_blocked()
        call.cancel()
        await trio.testing.wait_all_tasks_blocked()

        assert ["CANCELLED"] == ends


async def test_small_messages_on_many_calls_do_not_use_up_the_window(nursery, autojump_clock, peer):
    """Window is given back in bulk, and a message of the largest size fits all the same."""

    async def swallow_all(call, address):
        while await call.receive() is not None:
            pass

    server = Server({"/S/Swallow": swallow_all}, ServerLimits(link=LinkLimits(resets_per_s=1000.0)))
    channel = await channel_to(nursery, server, A)
    calls = [channel.stream("/S/Swallow") for _ in range(100)]
    for _ in range(60):
        for call in calls:
            await call.send(b"x" * 100)
    for call in calls[:5]:
        await call.send(b"x" * 65536)

    assert channel.closed is None
