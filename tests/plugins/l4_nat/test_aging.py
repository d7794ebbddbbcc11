# SPDX-License-Identifier: Apache-2.0
"""Flows end when they should: timeouts, sweep, quarantine, down nodes; on a clock that hurries."""

from __future__ import annotations

import pytest
from galelb_plugins.l4_nat.sweep import What, current_tick, sweep

from galelb.abi import NodeFlag, Reason
from galelb.testing.cases import Play
from galelb.testing.dissect import dissect
from galelb.testing.packets import frame
from galelb.testing.runner import PacketRunner, Verdict
from galelb.testing.world import GATEWAY_MAC, PRIVATE, PUBLIC_MAC

pytestmark = pytest.mark.bpf

SHORT, GRACE, UDP, LONG = 20.0, 60.0, 80.0, 120.0
"""Seconds of options; 16 ms each here. Between them lies what a busy machine may lose."""
FAST = {
    "tcp_established_timeout": LONG,
    "tcp_syn_timeout": SHORT,
    "tcp_fin_timeout": SHORT,
    "port_quarantine": SHORT,
    "udp_timeout": UDP,
    "udp_unreplied_timeout": SHORT,
    "down_node_grace": GRACE,
}
MODES = ["full_nat", "dnat"]
KINDS = ["tcp4", "udp6"]


@pytest.fixture(params=MODES)
def runner(request, runners) -> PacketRunner:
    made = runners.make(
        "xdp", hurry=True, mode=request.param, max_flows=1024, max_slices=32, **FAST
    )
    yield made
    made.restore()


@pytest.fixture(params=KINDS)
def play(request, runner) -> Play:
    full_nat = runner.forwarder.options.mode == "full_nat"
    service = next(s for s in runner.services.values() if s.name == request.param)
    return Play.start(runner, service, full_nat=full_nat)


def after(runner: PacketRunner, seconds: float) -> None:
    """Wait until more than so many seconds of the options have passed."""
    wait(runner, runner.world.host.ticks(seconds) + 2)


def wait(runner: PacketRunner, ticks: int) -> None:
    start = current_tick(runner)
    while (current_tick(runner) - start) % 65536 < ticks:
        pass


def swept(runner: PacketRunner, what: What = What.FLOWS) -> int:
    """Sweep both families and return how many entries were removed."""
    removed = 0
    for version in (4, 6):
        first, done = 0, False
        while not done:
            part = sweep(runner, what, version, first, 16)
            first, done = part.next, part.done
            removed += part.removed
    return removed


def flow_of(play: Play):
    """The flow of a conversation as the forwarder lists it, or None."""
    found = play.runner.forwarder.flows(play.runner, play.runner.view(), limit=10**6)
    me = (play.talk.service.name, play.talk.client, play.talk.client_port)
    mine = [f for f in found if (f.service, str(f.client), f.client_port) == me]
    assert len(mine) <= 1
    return mine[0] if mine else None


def source_port(data: bytes) -> int:
    packet = dissect(data)
    assert packet is not None
    return packet.sport


def test_an_established_flow_is_listed(play) -> None:
    play.establish()

    flow = flow_of(play)

    assert flow is not None
    assert ("established" if play.tcp else "replied") == flow.state
    assert (play.talk.source, play.talk.source_port) == (str(flow.source), flow.source_port)
    assert play.talk.reached.address == flow.node
    assert flow.idle_s < 60


def test_the_states_are_those_of_the_packets(play) -> None:
    play.open()
    states = [flow_of(play).state]
    if play.tcp:
        play.send(play.talk.from_node(flags="SA"), PRIVATE)
        states.append(flow_of(play).state)
        play.send(play.talk.to_vip(flags="A"))
        states.append(flow_of(play).state)
        play.send(play.talk.to_vip(flags="FA"))
        states.append(flow_of(play).state)
        play.send(play.talk.from_node(flags="FA"), PRIVATE)
        states.append(flow_of(play).state)
        expected = ["syn_sent", "syn_received", "established", "closing", "closed"]
    else:
        play.send(play.talk.from_node(payload=b"answer"), PRIVATE)
        states.append(flow_of(play).state)
        expected = ["unreplied", "replied"]

    assert expected == states


def test_an_unanswered_flow_is_swept_soon(play) -> None:
    play.open()

    after(play.runner, SHORT)
    swept(play.runner)

    assert flow_of(play) is None


def test_an_established_flow_outlives_the_short_timeouts(play) -> None:
    play.establish()

    after(play.runner, SHORT)
    swept(play.runner)

    assert flow_of(play) is not None


def test_an_idle_flow_is_swept_at_its_timeout(play) -> None:
    play.establish()

    after(play.runner, LONG if play.tcp else UDP)
    swept(play.runner)

    assert flow_of(play) is None


@pytest.mark.parametrize("side", ["client", "node"])
def test_packets_of_either_side_keep_a_flow(play, side) -> None:
    timeout = LONG if play.tcp else UDP
    play.establish()
    port = play.talk.source_port

    for _ in range(4):
        after(play.runner, timeout / 2)
        if side == "client":
            play.send(play.talk.to_vip(payload=b"x", **({"flags": "A"} if play.tcp else {})))
        else:
            data = play.talk.from_node(payload=b"x", **({"flags": "A"} if play.tcp else {}))
            play.send(data, PRIVATE)
    swept(play.runner)

    flow = flow_of(play)
    assert flow is not None
    assert port == flow.source_port


def test_a_finished_connection_is_swept_after_the_fin_timeout(play) -> None:
    if not play.tcp:
        return
    play.establish()
    play.send(play.talk.to_vip(flags="FA"))
    play.send(play.talk.from_node(flags="FA"), PRIVATE)

    after(play.runner, SHORT)
    swept(play.runner)

    assert flow_of(play) is None


def test_an_expired_flow_begins_afresh_without_a_sweep(play) -> None:
    first = play.open()

    after(play.runner, SHORT)
    again = play.open()

    assert Reason.FORWARDED == again.reason
    if play.talk.full_nat:
        assert source_port(first.data) != source_port(again.data)
    assert flow_of(play) is not None


def test_a_swept_flow_s_answers_are_not_ours_any_more(play) -> None:
    play.open()
    data = play.talk.from_node(payload=b"late")
    after(play.runner, SHORT)
    swept(play.runner)

    outcome = play.send(data, PRIVATE)

    assert (Verdict.PASS, data) == (outcome.verdict, outcome.data)


# down nodes


@pytest.fixture
def down(play):
    """An established flow whose node goes down; call it with `next_hop=0` to lose that too.

    Afterwards the service's table names the other nodes, as a control plane would see to.
    """
    runner, service = play.runner, play.talk.service
    number = next(n for n, one in runner.services.items() if one == service)
    nodes = [n for n in runner.world.nodes if n.address.version == service.vip.version]

    def fall(**more) -> None:
        play.establish()
        wait(runner, 2)
        runner.set_node(play.talk.reached, NodeFlag.PRESENT | NodeFlag.DOWN, **more)
        runner.set_table(number, [n for n in nodes if n != play.talk.reached])

    yield fall
    runner.set_table(number, nodes)


def data_packet(play: Play) -> bytes:
    return play.talk.to_vip(payload=b"hello?", **({"flags": "PA", "ack": 4242} if play.tcp else {}))


def test_a_silent_down_node_loses_its_flows_after_the_grace(play, down) -> None:
    down()

    first = play.send(data_packet(play))
    after(play.runner, GRACE)
    last = play.send(data_packet(play))

    assert Reason.FORWARDED == first.reason
    if play.tcp:
        assert Reason.RESET_SENT == last.reason, str(last)
        check_reset(play, last.data)
        assert flow_of(play) is None
    else:
        assert Reason.FORWARDED == last.reason, str(last)


def check_reset(play: Play, data: bytes) -> None:
    """A RST as the node would have sent it: from the VIP, where the client expects it."""
    talk = play.talk
    expected = frame(
        str(talk.service.vip),
        talk.client,
        talk.service.port,
        talk.client_port,
        flags="R",
        seq=4242,
        src_mac=PUBLIC_MAC,
        dst_mac=GATEWAY_MAC,
    )
    got, want = dissect(data), dissect(expected)
    assert got is not None
    assert want is not None
    assert (want.src, want.dst, want.sport, want.dport) == (got.src, got.dst, got.sport, got.dport)
    assert got.tcp_flags & 0x04
    assert expected[want.l4 + 4 : want.l4 + 8] == data[got.l4 + 4 : got.l4 + 8]
    assert expected[:12] == data[:12]


def test_a_down_node_that_answers_keeps_its_flows(play, down) -> None:
    down()

    for _ in range(3):
        after(play.runner, GRACE * 0.4)
        there = play.send(data_packet(play))
        back = play.send(play.talk.from_node(payload=b"yes"), PRIVATE)
        assert [Reason.FORWARDED, Reason.RETURNED] == [there.reason, back.reason]


def test_an_idle_flow_of_a_down_node_is_not_reset_at_once(play, down) -> None:
    down()

    after(play.runner, GRACE)
    outcome = play.send(data_packet(play))

    assert Reason.FORWARDED == outcome.reason, str(outcome)


def test_a_node_that_is_up_again_keeps_its_flows(play, down) -> None:
    down()
    play.send(data_packet(play))
    play.runner.set_node(play.talk.reached)

    after(play.runner, GRACE)
    outcome = play.send(data_packet(play))

    assert Reason.FORWARDED == outcome.reason, str(outcome)


def test_a_down_node_without_a_neighbour_is_reset_as_well(play, down) -> None:
    """A machine that is gone has no neighbour entry either."""
    down(next_hop=0)

    play.send(data_packet(play))
    after(play.runner, GRACE)
    last = play.send(data_packet(play))

    assert (Reason.RESET_SENT if play.tcp else Reason.FORWARDED) == last.reason, str(last)
