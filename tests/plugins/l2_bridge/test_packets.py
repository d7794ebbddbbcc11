# SPDX-License-Identifier: Apache-2.0
"""Packet table of l2_bridge: what reaches a node, what is passed, what is refused."""

from __future__ import annotations

import pytest

from galelb.abi import NextHopFlag, NodeFlag, Reason
from galelb.testing.cases import EVERY_KIND, PacketCase, Play, check, opened
from galelb.testing.checksums import checksum_problems
from galelb.testing.dissect import dissect
from galelb.testing.packets import arp_request, extension, frame, icmp_echo
from galelb.testing.runner import Verdict
from galelb.testing.world import PRIVATE, PRIVATE_MAC

pytestmark = pytest.mark.bpf

TCP = ("tcp4", "tcp6")
UDP = ("udp4", "udp6")
V4 = ("tcp4", "udp4")
V6 = ("tcp6", "udp6")
XDP = ("xdp",)
"""The kernel refuses such frames in a test run of TC."""
CONTEXTS = ("xdp", "tc")
WAYS = [(context, kind) for context in CONTEXTS for kind in EVERY_KIND]
MTU = 1300


def ways(cases):
    return [(c, k, case) for case in cases for c in case.contexts for k in case.kinds]


def at_node(p: Play, **more) -> bytes:
    """The very same packet, from our MAC address to the node's, untagged."""
    macs = {"src_mac": PRIVATE_MAC, "dst_mac": p.talk.reached.mac}
    return p.talk.to_vip(**{"vlans": [], **more, **macs})


def forwards(name: str, packet=None, **more) -> PacketCase:
    arguments = packet or {}
    return PacketCase(
        name=name,
        packet=lambda p: p.talk.to_vip(**arguments),
        expect=lambda p: at_node(p, **arguments),
        verdict=Verdict.REDIRECT,
        reason=Reason.FORWARDED,
        out=PRIVATE,
        **more,
    )


def passes(name: str, packet, reason=Reason.PASS_FOREIGN, **more) -> PacketCase:
    return PacketCase(name=name, packet=packet, verdict=Verdict.PASS, reason=reason, **more)


FORWARD = [
    forwards("syn", {"flags": "S"}, kinds=TCP),
    forwards("syn with options", {"flags": "S", "tcp_options": [("MSS", 1460)]}, kinds=TCP),
    forwards("ack without a syn", {"flags": "A"}, kinds=TCP),
    forwards("ack of a known flow", {"flags": "A"}, kinds=TCP, given=opened),
    forwards("fin", {"flags": "FA"}, kinds=TCP),
    forwards("rst", {"flags": "R"}, kinds=TCP),
    forwards("data", {"flags": "PA", "payload": b"GET / HTTP/1.1\r\n"}, kinds=TCP),
    forwards("datagram", {"payload": b"query"}, kinds=UDP),
    forwards("empty datagram", {"payload": b""}, kinds=UDP),
    forwards("udp checksum 0 stays 0", {"checksum": 0, "payload": b"q"}, kinds=("udp4",)),
    forwards("type of service is kept", {"tos": 0xB8}),
    forwards("ecn bits are kept", {"tos": 0x03}),
    forwards("flow label is kept", {"flow_label": 0xABCDE}, kinds=V6),
    forwards("identification is kept", {"ident": 0xBEEF}, kinds=V4),
    forwards("don't fragment is kept", {"df": True}, kinds=V4),
    forwards("ttl 0 is the node's business", {"ttl": 0}),
    forwards("ttl 1 is not decremented", {"ttl": 1}),
    forwards("ttl 255", {"ttl": 255}),
    forwards("padding", {"minimum": 60}, kinds=V4),
    forwards("ipv4 options", {"options": b"\x94\x04\x00\x00"}, kinds=V4),
    forwards("forty bytes of ipv4 options", {"options": b"\x01" * 40}, kinds=V4),
    forwards("full segment", {"payload": b"\xa5" * 1400}),
    forwards("odd length", {"payload": b"\xa5" * 1399}),
    *[
        forwards(f"extension {kind}", {"extensions": [extension(kind)]}, kinds=V6)
        for kind in ("hop", "dest", "routing", "atomic")
    ],
    forwards(
        "many extensions",
        {"extensions": [extension("hop", 16), extension("dest"), extension("routing")]},
        kinds=V6,
    ),
]


def other(p: Play, *, port: int = 0, address: int = 0, flip: bool = False) -> bytes:
    service = p.talk.service
    protocol = {"tcp": "udp", "udp": "tcp"}[p.talk.protocol] if flip else p.talk.protocol
    vip = str(service.vip + address)
    return frame(p.talk.client, vip, p.talk.client_port, service.port + port, protocol=protocol)


def answer(p: Play) -> bytes:
    """What a node sends to the client by mistake through us: from the VIP."""
    talk = p.talk
    vip, port = str(talk.service.vip), talk.service.port
    return frame(vip, talk.client, port, talk.client_port, protocol=talk.protocol)


def retype(data: bytes, ethertype: int) -> bytes:
    return data[:12] + ethertype.to_bytes(2, "big") + data[14:]


def reversion(data: bytes) -> bytes:
    return data[:14] + bytes([data[14] & 15 | 0x50]) + data[15:]


FOREIGN = [
    passes("another port of the vip", lambda p: other(p, port=7000)),
    passes("another address", lambda p: other(p, address=1)),
    passes("the other protocol", lambda p: other(p, flip=True)),
    passes("ping to the vip", lambda p: icmp_echo(p.talk.client, str(p.talk.service.vip))),
    passes("an answer of a node", answer, ingress=PRIVATE),
    passes(
        "arp",
        lambda p: arp_request(p.talk.client, str(p.talk.service.vip)),
        Reason.PASS_UNPARSABLE,
        kinds=("tcp4",),
    ),
    passes("unknown ethertype", lambda p: retype(p.talk.to_vip(), 0x88CC), Reason.PASS_UNPARSABLE),
    passes("wrong ip version", lambda p: reversion(p.talk.to_vip()), Reason.PASS_UNPARSABLE),
    passes("only ethernet", lambda p: p.talk.to_vip()[:14], Reason.PASS_UNPARSABLE, contexts=XDP),
    passes("half a header", lambda p: p.talk.to_vip()[:30], Reason.PASS_UNPARSABLE, contexts=XDP),
    passes("cut off at its end", lambda p: p.talk.to_vip()[:-1], Reason.PASS_UNPARSABLE),
]


@pytest.mark.parametrize(("context", "kind", "case"), ways(FORWARD))
def test_forward(bridge, context, kind, case) -> None:
    check(case, bridge(context, kind))


@pytest.mark.parametrize(("context", "kind", "case"), ways(FOREIGN))
def test_foreign(bridge, context, kind, case) -> None:
    check(case, bridge(context, kind))


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_truncated_at_every_length_is_never_forwarded(bridge, kind) -> None:
    play = bridge("xdp", kind)
    data = play.talk.to_vip(payload=b"some payload")

    for length in range(14, len(data)):
        outcome = play.send(data[:length])

        assert outcome.verdict in (Verdict.PASS, Verdict.DROP), f"{length}: {outcome}"


@pytest.mark.parametrize(("context", "kind"), WAYS)
def test_a_flow_keeps_its_node(bridge, context, kind) -> None:
    play = bridge(context, kind)
    first = play.open()

    outcomes = [play.send(play.talk.to_vip(payload=bytes([n]))) for n in range(5)]

    assert [first.node] * 5 == [outcome.node for outcome in outcomes]


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_flows_are_spread_over_all_nodes(bridge, kind) -> None:
    nodes = set()
    for _ in range(60):
        play = bridge("xdp", kind)
        nodes.add(play.open().node)

    family = play.talk.service.vip.version
    expected = {n.index for n in play.runner.world.nodes if n.address.version == family}
    assert expected == nodes


# one interface, hairpin


@pytest.mark.parametrize(("context", "kind"), WAYS)
def test_one_interface_serves_both_sides(bridge, context, kind) -> None:
    play = bridge(context, kind, local=True)
    tx = Verdict.REDIRECT if context == "tc" else Verdict.TX

    outcome = play.send(play.talk.to_vip(payload=b"there"), PRIVATE)

    assert (tx, Reason.FORWARDED) == (outcome.verdict, outcome.reason)
    assert at_node(play, payload=b"there") == outcome.data


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize(("context", "kind"), WAYS)
def test_a_node_that_is_a_client_is_refused(bridge, context, kind, number) -> None:
    play = bridge(context, kind)
    service = play.talk.service
    nodes = [n for n in play.runner.world.nodes if n.address.version == service.vip.version]
    macs = {"src_mac": nodes[number].mac, "dst_mac": PRIVATE_MAC}
    client = str(nodes[number].address)
    port = play.talk.client_port
    data = frame(client, str(service.vip), port, service.port, protocol=play.talk.protocol, **macs)

    outcome = play.send(data, PRIVATE)

    assert (Verdict.DROP, Reason.HAIRPIN) == (outcome.verdict, outcome.reason)


def test_a_former_node_may_be_a_client(bridge) -> None:
    play = bridge("xdp", "tcp4")
    runner, service = play.runner, play.talk.service
    left = runner.world.nodes[0]

    def reasons() -> set[Reason]:
        ports = range(4711, 4731)  # some of these flows would be the node's own
        address, vip = str(left.address), str(service.vip)
        frames = [frame(address, vip, n, service.port, dst_mac=PRIVATE_MAC) for n in ports]
        return {play.send(data, PRIVATE).reason for data in frames}

    runner.set_node(left, NodeFlag(0))
    gone = reasons()
    runner.set_node(left)

    assert {Reason.FORWARDED, Reason.NODE_GONE} == gone
    assert {Reason.HAIRPIN} == reasons()


# messages of our own


@pytest.mark.parametrize(("context", "kind"), WAYS)
def test_packets_larger_than_the_way_out_are_answered_from_the_vip(bridge, context, kind) -> None:
    play = bridge(context, kind)
    play.open()
    node, world = play.talk.reached, play.runner.world
    room = MTU - (len(play.talk.to_vip()) - 14)
    play.runner.set_next_hop(node.index, world.private, node.mac, mtu=MTU)

    exact = play.send(play.talk.to_vip(payload=b"x" * room))
    above = play.send(play.talk.to_vip(payload=b"x" * (room + 1)))
    told = dissect(above.data)

    assert [Reason.FORWARDED, Reason.ICMP_SENT] == [exact.reason, above.reason]
    assert told is not None
    assert (str(play.talk.service.vip), play.talk.client) == (str(told.src), str(told.dst))
    assert MTU == int.from_bytes(above.data[told.l4 + 4 : told.l4 + 8], "big")
    assert [] == [p for p in checksum_problems(above.data) if not p.startswith("inner")]


# VLAN


def tagged(name: str, packet: dict, *, ours: bool, **more) -> PacketCase:
    return PacketCase(
        name=name,
        packet=lambda p: p.talk.to_vip(**packet),
        expect=at_node if ours else None,
        verdict=Verdict.REDIRECT if ours else Verdict.PASS,
        reason=Reason.FORWARDED if ours else Reason.PASS_FOREIGN,
        **more,
    )


VLAN = ("vlan4", "vlan6")
PRIORITY = 3 << 13
TAGS = [
    tagged("untagged service, wrong tag", {"vlans": [5]}, ours=False),
    tagged("untagged service, two tags", {"vlans": [0, 0]}, ours=False),
    tagged("untagged service, priority tag", {"vlans": [PRIORITY]}, ours=True),
    tagged("vlan service, its tag", {}, ours=True, kinds=VLAN),
    tagged("vlan service, its tag and priority", {"vlans": [PRIORITY | 5]}, ours=True, kinds=VLAN),
    tagged("vlan service, untagged", {"vlans": []}, ours=False, kinds=VLAN),
    tagged("vlan service, another tag", {"vlans": [6]}, ours=False, kinds=VLAN),
    tagged("vlan service, two tags", {"vlans": [5, 7]}, ours=False, kinds=VLAN),
]


@pytest.mark.parametrize(("context", "kind", "case"), ways(TAGS))
def test_tags(bridge, context, kind, case) -> None:
    check(case, bridge(context, kind))


@pytest.mark.parametrize("kind", VLAN)
def test_a_tag_stays_when_leaving_by_the_same_interface(bridge, kind) -> None:
    play = bridge("xdp", kind, local=True)

    outcome = play.send(play.talk.to_vip(payload=b"x"), PRIVATE)

    assert (Verdict.TX, at_node(play, payload=b"x", vlans=[5])) == (outcome.verdict, outcome.data)


# nodes


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("kind", ["empty4", "empty6"])
def test_without_a_routable_node_packets_are_dropped(bridge, context, kind) -> None:
    outcome = bridge(context, kind).open()

    assert (Verdict.DROP, Reason.NO_NODE) == (outcome.verdict, outcome.reason)


@pytest.mark.parametrize("missing", ["next hop", "validity"])
@pytest.mark.parametrize(("context", "kind"), WAYS)
def test_a_node_whose_mac_is_not_known_is_not_reached(bridge, context, kind, missing) -> None:
    play = bridge(context, kind)
    play.open()
    node, world = play.talk.reached, play.runner.world
    if missing == "next hop":
        play.runner.set_node(node, next_hop=0)
    else:
        play.runner.set_next_hop(node.index, world.private, node.mac, flags=NextHopFlag(0))

    outcome = play.send(play.talk.to_vip(payload=b"hello?"))

    assert (Verdict.DROP, Reason.NO_NEIGHBOUR) == (outcome.verdict, outcome.reason)


@pytest.mark.parametrize(("context", "kind"), WAYS)
def test_a_node_that_is_gone_gets_nothing(bridge, context, kind) -> None:
    play = bridge(context, kind)
    play.open()
    play.runner.set_node(play.talk.reached, NodeFlag(0))

    outcome = play.send(play.talk.to_vip(payload=b"anybody?"))

    assert (Verdict.DROP, Reason.NODE_GONE) == (outcome.verdict, outcome.reason)


@pytest.mark.parametrize(("context", "kind"), WAYS)
def test_a_node_s_new_mac_address_is_followed_at_once(bridge, context, kind) -> None:
    play = bridge(context, kind)
    play.open()
    mac = "02:00:00:00:99:99"
    play.runner.set_next_hop(play.talk.reached.index, play.runner.world.private, mac)

    outcome = play.send(play.talk.to_vip(payload=b"x"))

    expected = play.talk.to_vip(payload=b"x", src_mac=PRIVATE_MAC, dst_mac=mac, vlans=[])
    assert expected == outcome.data
