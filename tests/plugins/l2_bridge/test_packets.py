# SPDX-License-Identifier: Apache-2.0
"""Packets of l2_bridge at the node, byte by byte; the contract has what all forwarders promise."""

from __future__ import annotations

import pytest

from galelb.abi import NodeFlag, Reason
from galelb.testing.cases import EVERY_KIND, PacketCase, Play, check, opened
from galelb.testing.packets import extension, fragments, frame, icmp_error
from galelb.testing.runner import Verdict
from galelb.testing.world import GATEWAY_MAC, PRIVATE, PRIVATE_MAC, PUBLIC_MAC

pytestmark = pytest.mark.bpf

TCP = ("tcp4", "tcp6")
UDP = ("udp4", "udp6")
V4 = ("tcp4", "udp4")
V6 = ("tcp6", "udp6")
CONTEXTS = ("xdp", "tc")
WAYS = [(context, kind) for context in CONTEXTS for kind in EVERY_KIND]


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
    forwards("six extensions", {"extensions": [extension("dest")] * 6}, kinds=V6),
    forwards(
        "many extensions",
        {"extensions": [extension("hop", 16), extension("dest"), extension("routing")]},
        kinds=V6,
    ),
]


@pytest.mark.parametrize(("context", "kind", "case"), ways(FORWARD))
def test_forward(bridge, context, kind, case) -> None:
    check(case, bridge(context, kind))


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_flows_are_spread_over_all_nodes(bridge, kind) -> None:
    nodes = set()
    for _ in range(60):
        play = bridge("xdp", kind)
        nodes.add(play.open().node)

    family = play.talk.service.vip.version
    expected = {n.index for n in play.runner.world.nodes if n.address.version == family}
    assert expected == nodes


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


def with_macs(data: bytes, p: Play) -> bytes:
    return bytes.fromhex((p.talk.reached.mac + PRIVATE_MAC).replace(":", "")) + data[12:]


@pytest.mark.parametrize(("context", "kind"), WAYS)
def test_fragments_keep_their_identification(bridge, context, kind) -> None:
    play = bridge(context, kind)
    parts = fragments(play.talk.to_vip(payload=bytes(range(251))), 64)

    outcomes = [play.send(part) for part in parts]

    assert [with_macs(part, play) for part in parts] == [outcome.data for outcome in outcomes]


@pytest.mark.parametrize(("context", "kind"), WAYS)
def test_errors_are_not_changed(bridge, context, kind) -> None:
    play = bridge(context, kind)
    play.open()
    talk, service = play.talk, play.talk.service
    vip, own = str(service.vip), service.port
    quoted = frame(vip, talk.client, own, talk.client_port, protocol=talk.protocol, ttl=40)
    macs = {"src_mac": GATEWAY_MAC, "dst_mac": PUBLIC_MAC}
    data = icmp_error(talk.client, vip, quoted, kind={4: 3, 6: 1}[service.vip.version], **macs)

    outcome = play.send(data)

    assert (Reason.ICMP_TRANSLATED, with_macs(data, play)) == (outcome.reason, outcome.data)


@pytest.mark.parametrize(("context", "kind"), WAYS)
def test_frames_of_other_balancers_are_left_alone(bridge, context, kind) -> None:
    """A switch that has forgotten the node floods them: sent on, they would go round for ever."""
    play = bridge(context, kind)
    sent = play.open().data
    parts = [with_macs(part, play) for part in fragments(play.talk.to_vip(payload=bytes(251)), 64)]

    outcomes = [play.send(data, PRIVATE) for data in [sent, *parts]]

    assert {(Verdict.PASS, Reason.PASS_FOREIGN)} == {(o.verdict, o.reason) for o in outcomes}
    assert [sent, *parts] == [outcome.data for outcome in outcomes]


@pytest.mark.parametrize(("context", "kind"), WAYS)
def test_fragments_follow_none_of_another_vlan(bridge, context, kind) -> None:
    play = bridge(context, kind)
    first, later = fragments(play.talk.to_vip(payload=bytes(251)), 200)
    elsewhere = later[:12] + b"\x81\x00\x00\x63" + later[12:]

    outcomes = [play.send(data) for data in (first, elsewhere, later)]

    expected = [Reason.FORWARDED, Reason.PASS_FOREIGN, Reason.FRAGMENT_FOLLOWED]
    assert expected == [outcome.reason for outcome in outcomes]
