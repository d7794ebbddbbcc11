# SPDX-License-Identifier: Apache-2.0
"""Packet table of l4_nat: TTL, MTU, nodes that come and go, flows that end."""

from __future__ import annotations

import pytest

from galelb.abi import NextHopFlag, NodeFlag, Reason
from galelb.testing.cases import PacketCase, Play, check
from galelb.testing.checksums import checksum_problems
from galelb.testing.dissect import dissect
from galelb.testing.runner import Verdict
from galelb.testing.world import LOCAL_MAC, PRIVATE, PUBLIC

pytestmark = pytest.mark.bpf

TCP = ("tcp4", "tcp6")
WAYS = [
    (m, c, k) for m in ("full_nat", "dnat") for c in ("xdp", "tc") for k in (*TCP, "udp4", "udp6")
]
MTU = 1300
BIG = {"payload": b"\x77" * 1350}
TOO_BIG = {4: (3, 4), 6: (2, 0)}
EXCEEDED = {4: (11, 0), 6: (3, 0)}


# messages of our own


def check_message(play: Play, sent: bytes, kinds: dict[int, tuple[int, int]], rest: int) -> None:
    """The last output is an ICMP error from the VIP to the client that quotes what it sent."""
    version = play.talk.service.vip.version
    data = play.last.data
    packet = dissect(data)

    assert packet is not None
    assert (str(play.talk.service.vip), play.talk.client) == (str(packet.src), str(packet.dst))
    assert {4: 1, 6: 58}[version] == packet.protocol
    assert kinds[version] == (data[packet.l4], data[packet.l4 + 1])
    assert rest == int.from_bytes(data[packet.l4 + 4 : packet.l4 + 8], "big")
    quoted = data[packet.l4 + 8 : packet.end]
    assert sent[14:].startswith(quoted)
    assert len(quoted) >= {4: 28, 6: 48}[version]
    assert [] == [p for p in checksum_problems(data) if not p.startswith("inner")]
    assert (sent[6:12], sent[:6]) == (data[:6], data[6:12])


def sent_back(play: Play) -> tuple[Verdict, Reason]:
    tx = Verdict.REDIRECT if play.runner.context == "tc" else Verdict.TX
    return tx, Reason.ICMP_SENT


@pytest.mark.parametrize("ttl", [0, 1])
@pytest.mark.parametrize(("mode", "context", "kind"), WAYS)
def test_ttl_that_would_reach_zero_is_answered(nat, mode, context, kind, ttl) -> None:
    play = nat(mode, context, kind)
    data = play.talk.to_vip(ttl=ttl, payload=b"far away from home")

    outcome = play.send(data)

    assert sent_back(play) == (outcome.verdict, outcome.reason)
    check_message(play, data, EXCEEDED, 0)


@pytest.mark.parametrize(("mode", "context", "kind"), WAYS)
def test_packets_larger_than_the_way_out_are_answered(nat, mode, context, kind) -> None:
    play = nat(mode, context, kind)
    play.establish()
    world = play.runner.world
    play.runner.set_next_hop(play.talk.reached.index, world.private, play.talk.reached.mac, mtu=MTU)
    data = play.talk.to_vip(**BIG)

    outcome = play.send(data)

    assert sent_back(play) == (outcome.verdict, outcome.reason)
    check_message(play, data, TOO_BIG, MTU)


@pytest.mark.parametrize(("mode", "context", "kind"), WAYS)
def test_packets_of_exactly_the_mtu_go_on(nat, mode, context, kind) -> None:
    play = nat(mode, context, kind)
    play.establish()
    world, node = play.runner.world, play.talk.reached
    room = MTU - (len(play.talk.to_vip()) - 14)
    play.runner.set_next_hop(node.index, world.private, node.mac, mtu=MTU)

    exact = play.send(play.talk.to_vip(payload=b"x" * room))
    above = play.send(play.talk.to_vip(payload=b"x" * (room + 1)))

    assert [Reason.FORWARDED, Reason.ICMP_SENT] == [exact.reason, above.reason]


# nodes


@pytest.mark.parametrize(("mode", "context", "kind"), WAYS)
def test_a_draining_node_keeps_its_flows(nat, mode, context, kind) -> None:
    play = nat(mode, context, kind)
    play.establish()
    play.runner.set_node(play.talk.reached, NodeFlag.PRESENT | NodeFlag.DRAINING)

    check(still_forwarded("drained"), play)


@pytest.mark.parametrize(("mode", "context", "kind"), WAYS)
def test_flows_of_a_down_node_go_on_at_first(nat, mode, context, kind) -> None:
    play = nat(mode, context, kind)
    play.establish()
    play.runner.set_node(play.talk.reached, NodeFlag.PRESENT | NodeFlag.DOWN)

    check(still_forwarded("down"), play)


def still_forwarded(name: str) -> PacketCase:
    return PacketCase(
        name=name,
        packet=lambda p: p.talk.to_vip(payload=b"still there?"),
        expect=lambda p: p.talk.to_node(payload=b"still there?"),
        verdict=Verdict.REDIRECT,
        reason=Reason.FORWARDED,
    )


@pytest.mark.parametrize(("mode", "context", "kind"), WAYS)
def test_a_flow_of_a_node_that_is_gone_gets_another_node(nat, mode, context, kind) -> None:
    play = nat(mode, context, kind)
    play.establish()
    runner, old = play.runner, play.talk.reached
    number = next(n for n, s in runner.services.items() if s == play.talk.service)
    rest = [n for n in runner.world.nodes if n != old and n.address.version == old.address.version]
    runner.set_node(old, NodeFlag(0))
    runner.set_table(number, rest)

    outcome = play.send(play.talk.to_vip(payload=b"anybody?"))
    runner.restore()
    runner.set_table(number, [old, *rest])

    assert Reason.FORWARDED == outcome.reason, str(outcome)
    assert outcome.node in {n.index for n in rest}


@pytest.mark.parametrize(("mode", "context", "kind"), WAYS)
def test_answers_ask_the_fib_when_the_client_s_next_hop_is_withdrawn(
    nat, mode, context, kind
) -> None:
    play = nat(mode, context, kind)
    play.establish()
    runner = play.runner
    (interface, mac), _ = runner.world.hosts
    runner.set_next_hop(runner.first_host, interface, mac, flags=NextHopFlag(0))

    outcome = play.send(play.talk.from_node(payload=b"answer"), PRIVATE)

    assert (Reason.RETURNED, PUBLIC) == (outcome.reason, outcome.out), str(outcome)
    assert play.talk.to_client(payload=b"answer") == outcome.data


@pytest.mark.parametrize(("mode", "context", "kind"), WAYS)
def test_answers_leave_by_the_next_hop_in_force(nat, mode, context, kind) -> None:
    """The way back is an object: when the gateway's MAC changes, flows follow at once."""
    play = nat(mode, context, kind)
    play.establish()
    runner = play.runner
    runner.set_next_hop(runner.first_host, runner.world.public, LOCAL_MAC)

    outcome = play.send(play.talk.from_node(payload=b"answer"), PRIVATE)

    assert bytes.fromhex(LOCAL_MAC.replace(":", "")) == outcome.data[:6]


# flows that end


@pytest.mark.parametrize(
    ("mode", "context"), [(m, c) for m in ("full_nat", "dnat") for c in ("xdp", "tc")]
)
@pytest.mark.parametrize("kind", TCP)
def test_a_syn_on_a_closed_flow_begins_afresh(nat, mode, context, kind) -> None:
    play = nat(mode, context, kind)
    play.establish()
    old = play.talk.source_port
    play.send(play.talk.to_vip(flags="FA"))
    play.send(play.talk.from_node(flags="FA"), PRIVATE)
    play.send(play.talk.to_vip(flags="A"))

    outcome = play.send(play.talk.to_vip(flags="S", seq=77))
    packet = dissect(outcome.data)

    assert Reason.FORWARDED == outcome.reason, str(outcome)
    assert packet is not None
    if mode == "full_nat":
        assert old != packet.sport
    else:
        assert play.talk.client_port == packet.sport


@pytest.mark.parametrize("kind", TCP)
def test_a_syn_after_a_reset_begins_afresh(nat, kind) -> None:
    play = nat("full_nat", "xdp", kind)
    play.establish()
    old = play.talk.source_port
    play.send(play.talk.to_vip(flags="R"))

    outcome = play.send(play.talk.to_vip(flags="S", seq=77))

    packet = dissect(outcome.data)
    assert packet is not None
    assert old != packet.sport


@pytest.mark.parametrize("kind", TCP)
def test_a_retransmitted_syn_keeps_its_port(nat, kind) -> None:
    play = nat("full_nat", "xdp", kind)
    first = play.open()

    again = play.open()

    assert first.data == again.data
