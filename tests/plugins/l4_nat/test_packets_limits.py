# SPDX-License-Identifier: Apache-2.0
"""Packet table of l4_nat: TTL, MTU, VLAN tags, one interface, nodes that come and go."""

from __future__ import annotations

import pytest

from galelb.abi import NextHopFlag, NodeFlag, Reason
from galelb.testing.cases import PacketCase, Play, check, table
from galelb.testing.checksums import checksum_problems
from galelb.testing.dissect import dissect
from galelb.testing.packets import fragments, frame, icmp_error
from galelb.testing.runner import Verdict
from galelb.testing.world import LOCAL_MAC, PRIVATE, PRIVATE_MAC, PUBLIC, TestNode

pytestmark = pytest.mark.bpf

TCP = ("tcp4", "tcp6")
WAYS = [
    (m, c, k) for m in ("full_nat", "dnat") for c in ("xdp", "tc") for k in (*TCP, "udp4", "udp6")
]
PRIORITY = 3 << 13
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


# VLAN


def tagged(name: str, packet: dict, verdict=Verdict.PASS, expect=None, **more) -> PacketCase:
    reasons = {Verdict.PASS: Reason.PASS_FOREIGN, Verdict.REDIRECT: Reason.FORWARDED}
    return PacketCase(
        name=name,
        packet=lambda p: p.talk.to_vip(**packet),
        expect=expect,
        verdict=verdict,
        reason=reasons[verdict],
        **more,
    )


def untagged_at_node(p: Play) -> bytes:
    return p.talk.to_node()


VLAN = ("vlan4", "vlan6")
TAGS = [
    tagged("untagged service, wrong tag", {"vlans": [5]}),
    tagged("untagged service, two tags", {"vlans": [0, 0]}),
    tagged("priority tag", {"vlans": [PRIORITY]}, Verdict.REDIRECT, untagged_at_node),
    tagged("vlan service, its tag", {}, Verdict.REDIRECT, untagged_at_node, kinds=VLAN),
    tagged(
        "vlan service, its tag with a priority",
        {"vlans": [PRIORITY | 5]},
        Verdict.REDIRECT,
        untagged_at_node,
        kinds=VLAN,
    ),
    tagged("vlan service, untagged", {"vlans": []}, kinds=VLAN),
    tagged("vlan service, another tag", {"vlans": [6]}, kinds=VLAN),
    tagged("vlan service, priority tag", {"vlans": [PRIORITY]}, kinds=VLAN),
    tagged("vlan service, its tag outside", {"vlans": [5, 7]}, kinds=VLAN),
    tagged("vlan service, its tag inside", {"vlans": [7, 5]}, kinds=VLAN),
    PacketCase(
        name="vlan service, answer gets its tag",
        given=lambda p: p.open(),
        packet=lambda p: p.talk.from_node(payload=b"answer"),
        expect=lambda p: p.talk.to_client(payload=b"answer"),
        verdict=Verdict.REDIRECT,
        reason=Reason.RETURNED,
        ingress=PRIVATE,
        kinds=VLAN,
        contexts=("xdp",),  # in TC the pushed tag lies beside the frame
    ),
]


@pytest.mark.parametrize(("mode", "context", "kind", "case"), table(TAGS))
def test_tags(nat, mode, context, kind, case) -> None:
    check(case, nat(mode, context, kind))


@pytest.mark.parametrize("vlans", [[0], [PRIORITY], [6], [5]])
@pytest.mark.parametrize("kind", VLAN)
@pytest.mark.parametrize("mode", ["full_nat", "dnat"])
def test_the_tag_of_an_answer_is_replaced_by_the_service_s(nat, mode, kind, vlans) -> None:
    """Nodes may be on a VLAN of their own; clients are on the service's."""
    play = nat(mode, "xdp", kind)
    play.open()

    outcome = play.send(play.talk.from_node(payload=b"x", vlans=vlans), PRIVATE)

    assert play.talk.to_client(payload=b"x") == outcome.data


@pytest.mark.parametrize("vlans", [[0], [6]])
@pytest.mark.parametrize(("mode", "kind"), [(m, k) for m in ("full_nat", "dnat") for k in TCP])
def test_the_tag_of_an_answer_is_removed(nat, mode, kind, vlans) -> None:
    play = nat(mode, "xdp", kind)
    play.open()

    outcome = play.send(play.talk.from_node(payload=b"x", vlans=vlans), PRIVATE)

    assert play.talk.to_client(payload=b"x") == outcome.data


def double_tagged(play: Play) -> list[bytes]:
    """What belongs to a flow, but lies behind two tags: an answer, an error, a fragment."""
    talk = play.talk
    tags = b"\x81\x00\x00\x07\x81\x00\x00\x08"
    answer = talk.from_node(payload=bytes(100))
    kind = {4: 3, 6: 1}[talk.service.vip.version]
    error = icmp_error(str(talk.reached.address), talk.source, talk.to_node(), kind=kind)
    plain = [answer, error, *fragments(answer, 64)]
    return [data[:12] + tags + data[12:] for data in plain]


@pytest.mark.parametrize(("mode", "context", "kind"), WAYS)
def test_behind_two_tags_nothing_is_ours(nat, mode, context, kind) -> None:
    play = nat(mode, context, kind)
    play.establish()

    for data in double_tagged(play):
        outcome = play.send(data, PRIVATE)
        assert (Verdict.PASS, data) == (outcome.verdict, outcome.data), str(outcome)


def test_a_tag_stays_when_leaving_by_the_same_interface(nat) -> None:
    play = nat("full_nat", "xdp", "vlan4", local=True)

    first = play.open()
    back = play.send(play.talk.from_node(flags="SA", vlans=[5]), PRIVATE)

    assert (Verdict.TX, play.talk.to_node(flags="S", vlans=[5])) == (first.verdict, first.data)
    assert (Verdict.TX, play.talk.to_client(flags="SA")) == (back.verdict, back.data)


# one interface, hairpin


@pytest.mark.parametrize(("mode", "context", "kind"), WAYS)
def test_one_interface_serves_both_sides(nat, mode, context, kind) -> None:
    play = nat(mode, context, kind, local=True)
    tx = sent_back(play)[0]

    there = play.send(play.talk.to_vip(payload=b"there"), PRIVATE)
    back = play.send(play.talk.from_node(payload=b"back"), PRIVATE)

    assert (tx, Reason.FORWARDED) == (there.verdict, there.reason)
    assert play.talk.to_node(payload=b"there") == there.data
    assert (tx, Reason.RETURNED) == (back.verdict, back.reason)
    assert play.talk.to_client(payload=b"back") == back.data


def from_a_node(play: Play) -> tuple[TestNode, bytes]:
    """A packet of a node that is a client of the service itself."""
    service = play.talk.service
    node = next(n for n in play.runner.world.nodes if n.address.version == service.vip.version)
    data = frame(
        str(node.address),
        str(service.vip),
        play.talk.client_port,
        service.port,
        protocol=play.talk.protocol,
        src_mac=node.mac,
        dst_mac=PRIVATE_MAC,
    )
    return node, data


@pytest.mark.parametrize(("mode", "context", "kind"), WAYS)
def test_a_node_may_be_a_client_in_full_nat_only(nat, mode, context, kind) -> None:
    play = nat(mode, context, kind)
    _, data = from_a_node(play)

    outcome = play.send(data, PRIVATE)

    expected = {"full_nat": Reason.FORWARDED, "dnat": Reason.HAIRPIN}[mode]
    assert expected == outcome.reason, str(outcome)


@pytest.mark.parametrize("kind", ["tcp4", "udp6"])
def test_hairpin_answers_find_their_way_in_full_nat(nat, kind) -> None:
    play = nat("full_nat", "xdp", kind)
    node, data = from_a_node(play)
    play.send(data, PRIVATE)

    answer = play.send(play.talk.from_node(payload=b"answer"), PRIVATE)

    assert (Verdict.TX, Reason.RETURNED) == (answer.verdict, answer.reason)
    assert bytes.fromhex(node.mac.replace(":", "")) == answer.data[:6]


# nodes


@pytest.mark.parametrize(
    ("mode", "context"), [(m, c) for m in ("full_nat", "dnat") for c in ("xdp", "tc")]
)
@pytest.mark.parametrize("kind", ["empty4", "empty6"])
def test_without_a_routable_node_packets_are_dropped(nat, mode, context, kind) -> None:
    outcome = nat(mode, context, kind).open()

    assert (Verdict.DROP, Reason.NO_NODE) == (outcome.verdict, outcome.reason)


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
def test_a_node_without_a_next_hop_is_not_reached(nat, mode, context, kind) -> None:
    play = nat(mode, context, kind)
    play.establish()
    play.runner.set_node(play.talk.reached, next_hop=0)

    outcome = play.send(play.talk.to_vip(payload=b"hello?"))

    assert (Verdict.DROP, Reason.NO_NEIGHBOUR) == (outcome.verdict, outcome.reason)


@pytest.mark.parametrize(("mode", "context", "kind"), WAYS)
def test_a_next_hop_that_is_not_valid_is_not_used(nat, mode, context, kind) -> None:
    play = nat(mode, context, kind)
    play.establish()
    node, world = play.talk.reached, play.runner.world
    play.runner.set_next_hop(node.index, world.private, node.mac, flags=NextHopFlag(0))

    outcome = play.send(play.talk.to_vip(payload=b"hello?"))

    assert (Verdict.DROP, Reason.NO_NEIGHBOUR) == (outcome.verdict, outcome.reason)


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
