# SPDX-License-Identifier: Apache-2.0
"""The health source between nodes (our own client, in memory) and the balancer's core."""

import socket
from ipaddress import ip_address
from types import SimpleNamespace

import attrs
import galelb_plugins.health_grpc
import pytest
import trio
import trio.testing
from galelb_plugins.health_grpc.plugin import HealthGrpc, Options
from galelb_plugins.health_grpc.protocol import GET_CONFIG, REPORT, config_version

from galelb.errors import GaleError
from galelb.grpc.client import Channel
from galelb.grpc.framing import CallError
from galelb.grpc.health_pb2 import ConfigResponse
from galelb.grpc.health_pb2 import HealthStatus as Wire
from galelb.health import HealthSettings
from galelb.model import NodeSetup, NodeState

A = ip_address("10.0.0.1")
B = ip_address("10.0.0.2")


class FakeNode:
    """A node on a memory stream."""

    def __init__(self, channel):
        self.channel = channel
        self.call = channel.stream(REPORT)

    async def report(self, **fields):
        await self.call.send(Wire(**fields).SerializeToString())
        return Wire.FromString(await self.call.receive())


async def join(nursery, source, address=A):
    ours, theirs = trio.testing.memory_stream_pair()
    nursery.start_soon(source.server.serve_stream, theirs, address)
    channel = Channel(ours, "test")
    await channel.start(nursery)
    return FakeNode(channel)


@pytest.fixture
def core(make_core):
    return make_core()


async def test_is_registered_by_its_hook():
    assert [HealthGrpc] == galelb_plugins.health_grpc.galelb_register_health_sources()


async def test_a_node_joins_by_reporting(core, autojump_clock, nursery):
    node = await join(nursery, core.source())

    states = []
    for _ in range(3):
        states.append((await node.report(name="web")).state)
        await trio.sleep(1)

    assert ["probation", "probation", "routable"] == states
    assert "web" == core.health.get(A).node.name


async def test_nodes_are_known_by_their_address(core, autojump_clock, nursery):
    source = core.source()
    for address in (A, B):
        node = await join(nursery, source, address)
        await node.report()

    assert (A, B) == tuple(record.node.address for record in core.health.records())


@pytest.mark.parametrize("how", ["end", "cancel"])
async def test_a_node_whose_stream_ends_is_gone(core, autojump_clock, nursery, how):
    node = await join(nursery, core.source())
    await node.report()

    getattr(node.call, how)()
    await core.was_gone.wait()

    assert NodeState.DOWN == core.health.get(A).state


async def test_one_of_two_streams_may_close(core, autojump_clock, nursery):
    source = core.source()
    one, two = await join(nursery, source), await join(nursery, source)
    for _ in range(3):
        await one.report()
    await two.report()

    one.call.end()
    await trio.testing.wait_all_tasks_blocked()
    before = list(core.gone)
    two.call.end()
    await trio.testing.wait_all_tasks_blocked()

    assert [] == before
    assert 1 == len(core.gone)


async def test_get_config_alone_makes_no_node(core, autojump_clock, nursery):
    node = await join(nursery, core.source())
    await node.channel.unary(GET_CONFIG, b"")

    assert () == core.health.records()


async def test_a_bad_report_ends_the_stream_and_the_node(core, autojump_clock, nursery):
    node = await join(nursery, core.source())
    await node.report()
    await node.call.send(Wire(status=7).SerializeToString())

    with pytest.raises(CallError, match="INVALID_ARGUMENT: status must be 0"):
        await node.call.receive()
    await core.was_gone.wait()


async def test_a_full_balancer_says_so(core, autojump_clock, nursery):
    source = core.source()
    for number in range(8):
        node = await join(nursery, source, ip_address(f"10.0.1.{number}"))
        await node.report()

    late = await join(nursery, source)
    with pytest.raises(CallError, match=r"RESOURCE_EXHAUSTED: node 10\.0\.0\.1 refused"):
        await late.report()


async def test_a_node_that_never_reads_stays_healthy(core, autojump_clock, nursery):
    """Its answers are dropped once it gives no more room; its reports count on."""
    ours, theirs = trio.testing.memory_stream_pair()
    source = core.source()
    nursery.start_soon(source.server.serve_stream, theirs, A)
    channel = Channel(ours, "test")
    await channel.start(nursery)
    call = channel.stream(REPORT)
    for _ in range(2500):
        await call.send(b"")
        await trio.sleep(1)

    assert 2500 == len(core.reports)
    assert NodeState.ROUTABLE == core.health.get(A).state


async def test_a_node_that_floods_has_to_wait(core, autojump_clock, nursery):
    node = await join(nursery, core.source())
    report = Wire(message="x" * 1000).SerializeToString()  # fewer of them fill the window
    began = trio.current_time()

    async def flood():
        while True:
            await node.call.send(report)

    with trio.move_on_after(4):
        async with trio.open_nursery() as inner:
            inner.start_soon(flood)
            while await node.call.receive() is not None:
                pass

    seconds = trio.current_time() - began
    assert len(core.reports) <= 200 + 2 * 20 * seconds


async def test_stopping_loses_no_node(core, autojump_clock, nursery):
    source = core.source()
    async with trio.open_nursery() as inner:
        node = await join(inner, source)
        await node.report()
        inner.cancel_scope.cancel()

    assert [] == core.gone
    assert NodeState.PROBATION == core.health.get(A).state


async def test_listens_on_all_private_addresses_and_stops(make_core, free_port):
    core = make_core(free_port, [ip_address("127.0.0.1"), ip_address("::1")])
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await nursery.start(core.source().run)
            for host in ("127.0.0.1", "::1"):
                stream = await trio.open_tcp_stream(host, free_port)
                await stream.aclose()
            nursery.cancel_scope.cancel()

    with pytest.raises(OSError, match=r"127\.0\.0\.1"):
        await trio.open_tcp_stream("127.0.0.1", free_port)


async def test_a_port_in_use_is_a_clear_error(make_core, free_port):
    core = make_core(free_port)
    with socket.socket() as other:
        other.bind(("127.0.0.1", free_port))
        other.listen()

        with pytest.raises(
            GaleError, match=r"node_port \d+ on 127\.0\.0\.1: Address already in use"
        ):
            await core.source().run(task_status=trio.TASK_STATUS_IGNORED)


async def test_an_interface_without_address_is_a_clear_error(make_core):
    core = make_core(addresses=())

    with pytest.raises(GaleError, match="interface lo has no address"):
        await core.source().run(task_status=trio.TASK_STATUS_IGNORED)


def test_options_are_checked():
    with pytest.raises(ValueError, match="max_connections"):
        Options(max_connections=0)


async def test_a_silent_stream_gives_its_place_back(make_core, free_port, nursery, autojump_clock):
    core = make_core(free_port)
    source = core.source()
    await nursery.start(source.run)
    quiet, lively = await join(nursery, source), await join(nursery, source, B)

    async def report_on():
        while True:
            await lively.report()
            await trio.sleep(2)

    await quiet.report()
    nursery.start_soon(report_on)
    with pytest.raises(CallError, match="DEADLINE_EXCEEDED: no report for 15 s"):
        await quiet.call.receive()

    assert 15 <= trio.current_time() <= 20
    assert NodeState.ROUTABLE == core.health.get(B).state
    assert [A] == [address for _, address, _ in core.gone]
    nursery.cancel_scope.cancel()


async def test_our_own_stall_ends_no_stream(make_core, free_port, nursery, autojump_clock):
    core = make_core(free_port)
    source = core.source()
    await nursery.start(source.run)
    node = await join(nursery, source)
    await node.report()

    autojump_clock.jump(100)
    await trio.sleep(1)
    await node.report()
    await trio.sleep(10)

    assert (await node.report()).state
    assert [] == core.gone
    nursery.cancel_scope.cancel()


async def test_streams_of_one_address_are_bounded(core, autojump_clock, nursery):
    source = core.source(max_streams_per_address=3)
    nodes = [await join(nursery, source) for _ in range(3)]
    for node in nodes:
        await node.report()
    late = await join(nursery, source)

    with pytest.raises(CallError, match="RESOURCE_EXHAUSTED: too many streams"):
        await late.report()
    assert [] == core.gone
    nodes[0].call.end()
    await trio.testing.wait_all_tasks_blocked()
    await (await join(nursery, source)).report()


async def test_reports_before_the_end_of_a_stream_count(core, autojump_clock, nursery):
    node = await join(nursery, core.source())
    for _ in range(3):
        await node.call.send(b"")
    node.call.end()
    await core.was_gone.wait()

    assert 3 == len(core.reports)


async def test_a_changed_report_is_read_and_a_changed_view_is_told(core, autojump_clock, nursery):
    """Most reports repeat the last one, which is not decoded again; these do not."""
    node = await join(nursery, core.source())
    told = []
    bad = {"status": 1, "message": "x"}
    for fields in ({}, {}, {}, {}, bad, {}, {"weight": 7}, {"service": "s"}):
        answer = await node.report(**fields)
        told.append((answer.state, answer.weight, answer.service))
        await trio.sleep(1)

    assert [
        ("probation", 1, ""),
        ("probation", 1, ""),
        ("routable", 1, ""),
        ("routable", 1, ""),
        ("down", 1, ""),
        ("probation", 1, ""),
        ("probation", 7, ""),
        ("probation", 7, "s"),
    ] == told


async def test_a_new_set_up_is_told_with_the_next_answer(core, autojump_clock, nursery):
    setups = [(NodeSetup(kind="vip_on_lo", vip=ip_address("192.0.2.1")),), ()]
    core.context = attrs.evolve(core.context, node_setups=lambda: setups[-1])
    node = await join(nursery, core.source())

    versions = [(await node.report()).config_version]
    setups.pop()
    versions.append((await node.report()).config_version)

    assert ["", config_version(setups[0])] == versions


async def test_a_reload_changes_what_nodes_are_told(core, autojump_clock, nursery):
    source = core.source()
    node = await join(nursery, source)
    config = SimpleNamespace(node_health=HealthSettings(checks_timeout=7.0))

    source.reload(Options(), config)
    wire = ConfigResponse.FromString(await node.channel.unary(GET_CONFIG, b""))

    assert 7_000_000_000 == wire.health_check_timeout


@pytest.mark.parametrize(
    ("options", "streams", "share"),
    [
        ({}, 2048, 0.2),
        ({"max_connections_per_address": 1}, 64, 0.2),
        ({"max_connections_per_address": 64}, 4096, 0.4),
        ({"max_connections_per_address": 4096}, 262144, 1.0),
        ({"max_streams_per_address": 7}, 7, 0.2),
    ],
)
def test_who_allows_more_connections_of_an_address_allows_it_more(core, options, streams, share):
    source = core.source(**options)

    assert (streams, share) == (source.options.most_streams, source.server.limits.time_share)


async def test_many_nodes_behind_one_address(make_core, nursery, autojump_clock):
    """Such as a test with 2,000 streams from one machine."""
    core = make_core()
    source = core.source(max_connections=1000, max_connections_per_address=1000)
    nodes = [await join(nursery, source) for _ in range(300)]
    for _ in range(3):
        for node in nodes:
            await node.report()
        await trio.sleep(1)

    assert 900 == len(core.reports)
    assert 300 == source.server.connections
