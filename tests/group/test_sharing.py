# SPDX-License-Identifier: Apache-2.0
"""Balancers that share flows, in virtual time: who joins, is slow, is cut off, comes back, lies."""

import contextlib
from ipaddress import ip_address
from math import ceil

import pytest
import trio
from structlog.testing import capture_logs

from galelb.errors import BpfError
from galelb.flowshare import MAX_BATCH
from galelb.group import share_outbox
from galelb.group.keys import KeyRing
from galelb.group.share_messages import Ack, Batch, Hello, Whole, encode
from galelb.testing.fake_flows import FakeFlows
from tests.group.sharing_world import FOREIGN, Balancer, World, names


@pytest.fixture
def world(monkeypatch):
    return World(monkeypatch)


async def start(nursery, *balancers):
    """Start balancers that all know each other."""
    for one in balancers:
        one.meet(*(other for other in balancers if other is not one))
        await nursery.start(one.sharing.run)


@contextlib.asynccontextmanager
async def living(world, balancer):
    """Have a daemon run: the block begins after a second, and the daemon ends with it."""
    async with trio.open_nursery() as life:
        await life.start(balancer.sharing.run)
        await trio.sleep(1)
        yield
        life.cancel_scope.cancel()
    await world.break_all()


async def group(nursery, *balancers):
    """Start balancers, and wait until all have everything."""
    await start(nursery, *balancers)
    await trio.sleep(1)
    for one in balancers:
        assert one.sharing.complete
        assert {other.name for other in balancers} - {one.name} == set(one.sharing.current())


# What arrives.


async def test_each_of_three_has_the_flows_of_all(autojump_clock, world, nursery):
    three = [Balancer(number, names(f"f{number}-", 25)) for number in (1, 2, 3)]
    await group(nursery, *three)

    assert 75 == len(three[0].flows.flows)
    assert three[0].flows.flows == three[1].flows.flows == three[2].flows.flows


async def test_changes_arrive_within_a_look(autojump_clock, world, nursery):
    a, b = Balancer(1, ["old"]), Balancer(2)
    await group(nursery, a, b)

    a.flows.touch("old", "new")
    await trio.sleep(0.25)

    assert {"old": 2, "new": 1} == b.flows.flows


async def test_new_flows_arrive_at_once_and_once(autojump_clock, world, nursery):
    a, b = Balancer(1, ["old"]), Balancer(2)
    await group(nursery, a, b)
    taken = b.metric("galelb_shared_flows_total")
    await trio.sleep_until(ceil(trio.current_time()) + 0.05)

    a.flows.make("new")
    await trio.sleep(0.025)
    assert {"old": 1, "new": 1} == b.flows.flows
    await trio.sleep(1)

    now = b.metric("galelb_shared_flows_total")
    assert [1, 0] == [now[one,] - taken[one,] for one in ("added", "known")]


async def test_a_late_joiner_gets_all_and_says_when(autojump_clock, world, nursery):
    a, b = Balancer(1, names("a", 500)), Balancer(2, names("b", 500))
    await group(nursery, a, b)
    c = Balancer(3)
    for one, others in ((c, (a, b)), (a, (b, c)), (b, (a, c))):
        one.meet(*others)
    assert not c.sharing.complete

    await nursery.start(c.sharing.run)
    await trio.sleep(1)

    assert c.sharing.complete
    assert 1000 == len(c.flows.flows)
    assert c.changes >= 2


async def test_what_changes_during_the_transfer_is_there_afterwards(autojump_clock, world, nursery):
    a, b = Balancer(1, names("a", 100)), Balancer(2)
    world.delays[a.place[0]] = 0.05  # each message
    await start(nursery, a, b)
    await trio.sleep(0.6)
    assert 0 < len(b.flows.flows) < 100
    assert not b.sharing.complete

    a.flows.touch("a0", "a99", "new")
    await trio.sleep(5)

    assert b.sharing.complete
    assert a.flows.flows == b.flows.flows


async def test_nobody_waits_alone_or_without_flows_to_share(autojump_clock, world, nursery):
    a, b = Balancer(1), Balancer(2)
    assert a.sharing.complete

    a.meet(b)
    assert not a.sharing.complete
    a.shares = {}

    assert a.sharing.complete
    assert a.sharing.behind("lb2") is None


async def test_lag_and_age_of_copies_are_those_of_the_stream(autojump_clock, world, nursery):
    a, b = Balancer(1, ["one"]), Balancer(2)
    await group(nursery, a, b)
    assert a.sharing.lags["lb2"] < 0.5
    assert b.sharing.behind("lb1")[1] < 0.5

    world.delays[a.place[0]] = 1.5  # each message, and there is one each 0.2 s
    await trio.sleep(8)

    assert a.sharing.lags["lb2"] > 2.5
    assert b.sharing.behind("lb1")[1] > 2.5
    assert [] == list(b.sharing.current())


# Who is slow, or cut off.


async def test_a_slow_peer_gets_everything_later_and_no_other_is_slowed(
    autojump_clock, world, nursery, monkeypatch
):
    monkeypatch.setattr(share_outbox, "MAX_QUEUE", 1000)
    a, slow, quick = Balancer(1), Balancer(2), Balancer(3)
    await group(nursery, a, slow, quick)
    original = Gate(world, slow)

    with capture_logs() as logs:
        for number in range(20):
            a.flows.touch(*names(f"n{number}-", 20))
            await trio.sleep(0.2)
    await trio.sleep(0.3)

    assert 400 == len(quick.flows.flows)
    assert len(slow.flows.flows) < 400
    events = [one["peer"] for one in logs if one["event"] == "peer_takes_flows_too_slowly"]
    assert {"lb2"} == set(events)

    original.open()
    await trio.sleep(20)
    assert a.flows.flows == slow.flows.flows
    assert "lb1" in slow.sharing.current()


class Gate:
    """Makes streams to a balancer slow."""

    def __init__(self, world, to):
        self.wires = [
            one for one in world.streams if one.socket.getpeername()[0] == str(to.place[0])
        ]
        for wire in self.wires:
            wire.inner = Slow(wire.inner)

    def open(self):
        for wire in self.wires:
            wire.inner.delay = 0


class Slow:
    delay = 0.5

    def __init__(self, inner):
        self._inner = inner

    def __getattr__(self, name):
        return getattr(self._inner, name)

    async def send_all(self, data):
        await trio.sleep(self.delay)
        await self._inner.send_all(data)


async def test_after_a_cut_all_is_there_again_and_the_copy_counts_for_a_while(
    autojump_clock, world, nursery
):
    a, b = Balancer(1, ["one"]), Balancer(2)
    await group(nursery, a, b)

    world.cut.add(a.place[0])
    await world.break_all()
    await trio.sleep(5)
    assert 4 < trio.current_time() - b.sharing.as_of < 6
    a.flows.touch("meanwhile")
    assert ["lb1"] == list(b.sharing.current()), "lb1 may be dying, and this is the best copy"
    await trio.sleep(30)
    assert [] == list(b.sharing.current())
    assert b.sharing.complete

    world.cut.clear()
    await trio.sleep(6)

    assert a.flows.flows == b.flows.flows
    assert ["lb1"] == list(b.sharing.current())
    assert trio.current_time() - b.sharing.as_of < 1


async def test_short_streams_that_bring_nothing_do_not_end_the_time_of_a_good_copy(
    autojump_clock, world, nursery
):
    a, b = Balancer(1, ["one"]), Balancer(2)
    await group(nursery, a, b)
    a.flows.before = failing("everything")

    await world.break_all()
    for _ in range(5):
        await trio.sleep(4)
        await world.break_all()

    assert ["lb1"] == list(b.sharing.current())


async def test_a_silent_stream_is_given_up(autojump_clock, world, nursery):
    a, b = Balancer(1, ["one"]), Balancer(2)
    await group(nursery, a, b)
    before = len(world.streams)

    for wire in world.streams:
        wire.inner = Hole()
    await trio.sleep(6)
    a.flows.touch("two")
    await trio.sleep(6)

    assert len(world.streams) > before
    assert a.flows.flows == b.flows.flows


class Hole:
    async def send_all(self, data):
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes):
        await trio.sleep_forever()

    async def aclose(self):
        await trio.lowlevel.checkpoint()


async def test_a_peer_that_starts_anew_is_followed(autojump_clock, world, nursery):
    a, b = Balancer(1, ["one"]), Balancer(2)
    b.meet(a)
    await nursery.start(b.sharing.run)
    async with living(world, a):
        pass

    a.start_anew()
    a.flows.touch("two")
    await nursery.start(a.sharing.run)
    await trio.sleep(2)

    assert {"one": 1, "two": 1} == b.flows.flows
    assert ["lb1"] == list(b.sharing.current())


async def test_who_ended_without_its_kernel_is_awaited_until_it_returns(
    autojump_clock, world, nursery
):
    a, b = Balancer(1, ["one"]), Balancer(2)
    b.meet(a)
    await nursery.start(b.sharing.run)
    async with living(world, a):
        assert not b.sharing.awaited("lb1")
    await trio.sleep(1)
    b.meet()
    assert b.sharing.awaited("lb1")

    a.start_anew()
    b.meet(a)
    async with living(world, a):
        assert not b.sharing.awaited("lb1")
    await trio.sleep(1)
    b.meet()
    assert b.sharing.awaited("lb1")

    await trio.sleep(31)

    assert not b.sharing.awaited("lb1")


async def test_who_cannot_be_reached_is_not_awaited(autojump_clock, world, nursery):
    a, b = Balancer(1, ["one"]), Balancer(2)
    await group(nursery, a, b)

    world.cut.add(a.place[0])
    await world.break_all()
    await trio.sleep(5)
    b.meet()

    assert not b.sharing.awaited("lb1")


async def test_a_peer_that_goes_and_returns_is_complete_anew(autojump_clock, world, nursery):
    a, b = Balancer(1, ["one"]), Balancer(2)
    await group(nursery, a, b)
    taken = b.metric("galelb_shared_flows_total")["added",]

    b.meet()
    b.meet(a)
    b.meet()
    b.meet(a)
    assert not b.sharing.complete
    await trio.sleep(1)

    assert b.sharing.complete
    assert taken == b.metric("galelb_shared_flows_total")["added",]


async def test_nothing_more_is_fetched_from_who_is_gone(autojump_clock, world, nursery):
    a, b = Balancer(1, ["one"]), Balancer(2)
    await group(nursery, a, b)

    b.meet()
    await trio.sleep(1)
    a.flows.touch("two")
    await trio.sleep(10)

    assert {"one": 1} == b.flows.flows
    assert {} == a.sharing.lags


async def test_who_gives_nothing_is_given_up_loudly_and_taken_when_it_does(
    autojump_clock, world, nursery
):
    a, b = Balancer(1, ["one"]), Balancer(2)
    b.meet(a)
    await nursery.start(b.sharing.run)
    await trio.sleep(9.9)
    assert not b.sharing.complete
    assert [] == b.sharing.notes()

    await trio.sleep(0.2)
    with capture_logs() as logs:
        assert b.sharing.complete
        assert b.sharing.complete
    assert ["peer_gives_no_flows"] == [one["event"] for one in logs]
    assert ["peer lb1 gives no connections: those that it has would break with it"] == (
        b.sharing.notes()
    )

    await nursery.start(a.sharing.run)
    await trio.sleep(6)
    assert [] == b.sharing.notes()
    assert {"one": 1} == b.flows.flows


# What forwarders do.


def failing(*methods):
    def before(method):
        if method in methods:
            raise BpfError("no map")

    return before


@pytest.mark.parametrize("method", ["changes", "everything", "news", "stirred"])
async def test_flows_that_cannot_be_read_end_nothing(autojump_clock, world, nursery, method):
    a, b = Balancer(1, ["one"]), Balancer(2)
    await group(nursery, a, b)
    with capture_logs() as logs:
        a.flows.before = failing(method)
        await world.break_all()
        for number in range(30):
            a.flows.make(f"two{number}")
            await trio.sleep(1)
    assert 1 == sum(one["event"] == "flows_not_read" for one in logs), logs

    a.flows.before = lambda method: None
    await trio.sleep(10)

    assert a.flows.flows == b.flows.flows
    assert ["lb1"] == list(b.sharing.current())


async def test_a_fault_in_a_forwarder_is_blamed_on_it(autojump_clock, world, nursery):
    a, b = Balancer(1, ["one"]), Balancer(2)
    a.flows.before = b.flows.before = lambda method: 1 // 0
    with capture_logs() as logs:
        await start(nursery, a, b)
        await trio.sleep(30)

    assert any("plugin nat" in one.get("reason", "") for one in logs)


async def test_a_batch_that_is_too_large_is_not_sent(autojump_clock, world, nursery):
    a, b = Balancer(1, ["n" * MAX_BATCH]), Balancer(2)
    with capture_logs() as logs:
        await start(nursery, a, b)
        await trio.sleep(5)

    assert [] == list(b.flows.flows)
    assert any("a batch of" in one.get("reason", "") for one in logs)


async def test_flows_that_cannot_be_taken_are_counted_and_fetched_again(
    autojump_clock, world, nursery
):
    a, b = Balancer(1, ["one"]), Balancer(2)
    b.flows.before = failing("accept")
    with capture_logs() as logs:
        await start(nursery, a, b)
        await trio.sleep(5)

    assert b.metric("galelb_shared_flows_total")["failed",] > 0
    assert 1 == sum(one["event"] == "flows_not_taken" for one in logs)

    b.flows.before = lambda method: None
    await trio.sleep(10)

    assert {"one"} == set(b.flows.flows)


async def test_another_data_path_sends_everything_again(autojump_clock, world, nursery):
    a, b = Balancer(1, ["one"]), Balancer(2)
    await group(nursery, a, b)

    a.shares = {"nat": FakeFlows(["one", "migrated"])}
    a.shares["nat"].changes()
    await trio.sleep(1)

    assert {"one", "migrated"} == set(b.flows.flows)
    assert ["lb1"] == list(b.sharing.current())


async def test_flows_of_a_forwarder_that_comes_later_are_fetched_then(
    autojump_clock, world, nursery
):
    a, b = Balancer(1, ["one"]), Balancer(2)
    del b.shares["nat"]
    await start(nursery, a, b)
    await trio.sleep(1)
    assert b.metric("galelb_shared_flows_total")["skipped",] > 0

    b.shares["nat"] = b.flows
    await trio.sleep(8)

    assert {"one": 1} == b.flows.flows


# Who is not of the group, or breaks the rules.


async def test_another_key_gets_and_gives_nothing(autojump_clock, world, nursery):
    a, b = Balancer(1, ["one"]), Balancer(2, ["two"], ring=FOREIGN)
    with capture_logs() as logs:
        await start(nursery, a, b)
        await trio.sleep(30)

    assert {"one": 1} == a.flows.flows
    assert {"two": 1} == b.flows.flows
    assert a.metric("galelb_sharing_refused_total")["not_authentic",] > 10
    assert 1 == sum(one.get("source") == "10.0.0.2" for one in logs)


async def test_one_peer_cannot_stand_for_another(autojump_clock, world, nursery):
    a, b, other = Balancer(1, ["one"]), Balancer(2), Balancer(3)
    a.name = "lb9"
    a.start_anew()
    await nursery.start(a.sharing.run)
    b.sharing.peers({"lb1": a.place, other.name: other.place})
    await nursery.start(b.sharing.run)
    await trio.sleep(5)

    assert {} == b.flows.flows
    assert b.metric("galelb_sharing_refused_total")["another_peer",] > 0


async def test_a_replayed_stream_gives_and_gets_nothing(autojump_clock, world, nursery):
    a, b = Balancer(1, ["one"]), Balancer(2)
    await group(nursery, a, b)
    said = [data for own, data in world.captured if own == a.place[0]]
    flows = dict(b.flows.flows)

    stream = await world.dial(a.place[0], *b.place)
    with contextlib.suppress(trio.BrokenResourceError):  # b ends it before all is said
        for data in said:
            await stream.inner.send_all(data)
            await trio.testing.wait_all_tasks_blocked()
    await trio.sleep(1)

    assert flows == b.flows.flows
    assert b.metric("galelb_sharing_refused_total")["not_authentic",] > 0


@pytest.mark.parametrize("garbage", [b"", b"\0", b"GET / HTTP/1.1\r\n\r\n" * 20, bytes(10_000)])
async def test_garbage_ends_nothing_but_its_stream(autojump_clock, world, nursery, garbage):
    a, b = Balancer(1, ["one"]), Balancer(2)
    await group(nursery, a, b)

    stream = await world.dial(b.place[0], *a.place)
    await stream.inner.send_all(garbage)
    await trio.sleep(3)
    a.flows.touch("two")
    await trio.sleep(1)

    assert a.flows.flows == b.flows.flows


async def test_strangers_get_few_streams_and_little_time(autojump_clock, world, nursery):
    a, b = Balancer(1, ["one"]), Balancer(2)
    await group(nursery, a, b)
    strangers = [await world.dial(address(one), *a.place) for one in range(30)]
    await trio.sleep(0.1)
    assert a.metric("galelb_sharing_refused_total")["too_many_streams",] == 14

    await trio.sleep(2)
    for stream in strangers:
        while await stream.receive_some():
            pass


def address(number):
    return ip_address(f"192.0.2.{number}")


@pytest.mark.parametrize(
    "messages",
    [
        [Ack(1)],
        [Hello(2)],
        [Hello(), Hello()],
        [Hello(), Ack(1)],
        [Hello(), Batch("nat", b"no flows")],
        [Whole()],
    ],
)
async def test_a_peer_that_breaks_the_rules_is_cut_off_and_tried_again(
    autojump_clock, world, nursery, messages, monkeypatch
):
    a, b = Balancer(1, ["one"]), Balancer(2)

    async def serve(stream):
        for message in messages:
            await stream.send(encode(message))
        await trio.sleep_forever()

    monkeypatch.setattr(a.sharing._giving, "serve", serve)
    with capture_logs() as logs:
        await start(nursery, a, b)
        await trio.sleep(5)

    assert not b.sharing.complete
    assert b.metric("galelb_sharing_refused_total")["unreadable",] > 1
    refused = [one["reason"] for one in logs if one["event"] == "sharing_refused"]
    assert refused
    assert sorted(set(refused)) == sorted(refused)


async def test_who_lost_its_key_is_let_go_when_all_prove_again(autojump_clock, world, nursery):
    old, new = KeyRing({1: bytes(32)}, 1), KeyRing({2: bytes([2]) * 32}, 2)
    a, b = Balancer(1, ["one"], ring=old), Balancer(2, ring=old)
    await group(nursery, a, b)
    a.ring = new
    a.flows.touch("two")
    await trio.sleep(1)
    assert {"one", "two"} == set(b.flows.flows)  # a stream goes on under the key it began with

    a.sharing.prove_again()
    await trio.sleep(1)
    a.flows.touch("three")
    await trio.sleep(5)
    assert {"one", "two"} == set(b.flows.flows)

    b.ring = new
    await trio.sleep(10)

    assert {"one", "two", "three"} == set(b.flows.flows)
