# SPDX-License-Identifier: Apache-2.0
"""Packet table of l4_nat: flows, their packets in both directions, and what is not ours."""

from __future__ import annotations

import pytest

from galelb.abi import Reason
from galelb.testing.cases import PacketCase, Play, check, established, opened, table
from galelb.testing.packets import frame
from galelb.testing.runner import Verdict
from galelb.testing.world import PRIVATE, PUBLIC

pytestmark = pytest.mark.bpf

TCP = ("tcp4", "tcp6")
UDP = ("udp4", "udp6")
XDP = ("xdp",)
"""The kernel refuses such frames in a test run of TC."""
V4 = ("tcp4", "udp4")
V6 = ("tcp6", "udp6")
SMALL = [1, 2, 3, 5, 17, 64, 511]


def forwards(name: str, packet=None, **more) -> PacketCase:
    """A packet of the client that must reach the node, rewritten."""
    arguments = packet or {}
    return PacketCase(
        name=name,
        packet=lambda p: p.talk.to_vip(**arguments),
        expect=lambda p: p.talk.to_node(**arguments),
        verdict=Verdict.REDIRECT,
        reason=Reason.FORWARDED,
        out=PRIVATE,
        **more,
    )


def returns(name: str, packet=None, **more) -> PacketCase:
    """A packet of the node that must reach the client, rewritten."""
    arguments = packet or {}
    return PacketCase(
        name=name,
        packet=lambda p: p.talk.from_node(**arguments),
        expect=lambda p: p.talk.to_client(**arguments),
        verdict=Verdict.REDIRECT,
        reason=Reason.RETURNED,
        out=PUBLIC,
        ingress=PRIVATE,
        **({"given": established} | more),
    )


def passes(name: str, packet, reason=Reason.PASS_FOREIGN, **more) -> PacketCase:
    return PacketCase(name=name, packet=packet, verdict=Verdict.PASS, reason=reason, **more)


def drops(name: str, packet, reason: Reason, **more) -> PacketCase:
    return PacketCase(name=name, packet=packet, verdict=Verdict.DROP, reason=reason, **more)


def to(p: Play, **more) -> bytes:
    return p.talk.to_vip(**more)


FORWARD = [
    forwards("syn of a new flow", {"flags": "S"}, kinds=TCP),
    forwards("syn with options", {"flags": "S", "tcp_options": [("MSS", 1460)]}, kinds=TCP),
    forwards("ack of an established flow", {"flags": "A"}, kinds=TCP, given=established),
    forwards("data", {"flags": "PA", "payload": b"GET / HTTP/1.1\r\n"}, kinds=TCP),
    forwards("adopted without a syn", {"flags": "A", "payload": b"x"}, kinds=TCP),
    forwards("fin of an established flow", {"flags": "FA"}, kinds=TCP, given=established),
    forwards("rst of an established flow", {"flags": "RA"}, kinds=TCP, given=established),
    forwards("second syn of a half-open flow", {"flags": "S"}, kinds=TCP, given=opened),
    forwards("syn with data", {"flags": "S", "payload": b"fast open"}, kinds=TCP),
    forwards("ecn setup syn", {"flags": "SEC"}, kinds=TCP),
    forwards("first datagram", {"payload": b"query"}, kinds=UDP),
    forwards("empty datagram", {"payload": b""}, kinds=UDP),
    forwards("datagram of a known flow", {"payload": b"query"}, kinds=UDP, given=established),
    forwards("udp checksum 0 stays 0", {"checksum": 0, "payload": b"q"}, kinds=("udp4",)),
    forwards("type of service is kept", {"tos": 0xB8}),
    forwards("ecn bits are kept", {"tos": 0x03}),
    forwards("flow label is kept", {"flow_label": 0xABCDE}, kinds=V6),
    forwards("identification is kept", {"ident": 0xBEEF}, kinds=V4),
    forwards("don't fragment is kept", {"df": True}, kinds=V4),
    forwards("ttl 2 is the last that goes on", {"ttl": 2}),
    forwards("ttl 255", {"ttl": 255}),
    forwards("minimum frame with padding", {"minimum": 60}, kinds=V4),
    forwards("padding in an established flow", {"minimum": 64}, kinds=V4, given=established),
    forwards("ipv4 options", {"options": b"\x94\x04\x00\x00"}, kinds=V4),
    forwards("forty bytes of ipv4 options", {"options": b"\x01" * 40}, kinds=V4),
    forwards("full segment", {"payload": b"\xa5" * 1400}),
    *[forwards(f"payload of {n} bytes", {"payload": bytes(range(256))[:n] * 1}) for n in SMALL],
]

RETURN = [
    returns("syn ack", {"flags": "SA"}, kinds=TCP, given=opened),
    returns("answer", {"payload": b"answer"}, kinds=UDP, given=opened),
    returns("data", {"flags": "PA", "payload": b"HTTP/1.1 200 OK\r\n"}, kinds=TCP),
    returns("fin", {"flags": "FA"}, kinds=TCP),
    returns("rst", {"flags": "R"}, kinds=TCP),
    returns("rst to a syn", {"flags": "RA"}, kinds=TCP, given=opened),
    returns("full segment", {"payload": b"\x5a" * 1400}),
    returns("odd length", {"payload": b"\x5a" * 1399}),
    returns("type of service is kept", {"tos": 0x28}),
    returns("ipv4 options", {"options": b"\x94\x04\x00\x00"}, kinds=V4),
    returns("udp checksum 0 stays 0", {"checksum": 0}, kinds=("udp4",)),
    returns("ttl 2 is the last that goes on", {"ttl": 2}),
    returns("padding", {"minimum": 60}, kinds=V4),
    returns("flow label is kept", {"flow_label": 0x12345}, kinds=V6),
]

FOREIGN = [
    passes(
        "to the source address without a flow",
        lambda p: stray(p),
        modes=("full_nat",),
        ingress=PRIVATE,
    ),
    passes(
        "from another port of the node",
        lambda p: wrong_port(p),
        given=established,
        ingress=PRIVATE,
    ),
]

REFUSED = [
    drops("rst without a flow", lambda p: to(p, flags="R"), Reason.NO_FLOW, kinds=TCP),
    drops("rst ack without a flow", lambda p: to(p, flags="RA"), Reason.NO_FLOW, kinds=TCP),
]


def stray(p: Play) -> bytes:
    node = next(n for n in p.runner.world.nodes if n.address.version == p.talk.service.vip.version)
    own = next(
        a for a in p.runner.world.private.addresses if a.version == p.talk.service.vip.version
    )
    return frame(
        str(node.address), str(own), p.talk.service.target_port, 32001, protocol=p.talk.protocol
    )


def wrong_port(p: Play) -> bytes:
    talk = p.talk
    return frame(
        str(talk.reached.address),
        talk.source,
        talk.service.target_port + 1,
        talk.source_port,
        protocol=talk.protocol,
    )


@pytest.mark.parametrize(("mode", "context", "kind", "case"), table(FORWARD))
def test_forward(nat, mode, context, kind, case) -> None:
    check(case, nat(mode, context, kind))


@pytest.mark.parametrize(("mode", "context", "kind", "case"), table(RETURN))
def test_return(nat, mode, context, kind, case) -> None:
    check(case, nat(mode, context, kind))


@pytest.mark.parametrize(("mode", "context", "kind", "case"), table(FOREIGN))
def test_foreign(nat, mode, context, kind, case) -> None:
    check(case, nat(mode, context, kind))


@pytest.mark.parametrize(("mode", "context", "kind", "case"), table(REFUSED))
def test_refused(nat, mode, context, kind, case) -> None:
    check(case, nat(mode, context, kind))
