# SPDX-License-Identifier: Apache-2.0
"""Packet table of l4_nat: ICMP errors are translated both ways, what they quote included."""

from __future__ import annotations

import pytest

from galelb.abi import Reason
from galelb.testing.cases import PacketCase, Play, check, established, table
from galelb.testing.packets import frame, icmp_error
from galelb.testing.runner import Verdict
from galelb.testing.world import GATEWAY_MAC, PRIVATE, PRIVATE_MAC, PUBLIC, PUBLIC_MAC

pytestmark = pytest.mark.bpf

V4 = ("tcp4", "udp4")
V6 = ("tcp6", "udp6")
ROUTER = {4: "100.64.0.1", 6: "2001:db8:abc::1"}
INNER = {"payload": bytes(range(200)), "ttl": 40}
ERRORS = {
    "frag needed": (V4, {"kind": 3, "code": 4, "rest": 1400}),
    "host unreachable": (V4, {"kind": 3, "code": 1}),
    "port unreachable": (V4, {"kind": 3, "code": 3}),
    "ttl exceeded": (V4, {"kind": 11}),
    "parameter problem": (V4, {"kind": 12, "rest": 20 << 24}),
    "packet too big": (V6, {"kind": 2, "rest": 1400}),
    "no route": (V6, {"kind": 1}),
    "hop limit exceeded": (V6, {"kind": 3}),
    "parameter problem v6": (V6, {"kind": 4, "rest": 40}),
}


def version(p: Play) -> int:
    return p.talk.service.vip.version


def to_vip(p: Play, inner: dict | None = None, **error) -> bytes:
    """An error of a router about a packet that we sent to the client."""
    quoted = p.talk.to_client(**(INNER if inner is None else inner))
    macs = {"src_mac": GATEWAY_MAC, "dst_mac": PUBLIC_MAC}
    return icmp_error(ROUTER[version(p)], str(p.talk.service.vip), quoted, **macs, **error)


def to_node(p: Play, inner: dict | None = None, **error) -> bytes:
    """The same for the node: about the packet that it sent, as the router saw it."""
    packet = dict(INNER if inner is None else inner)
    packet["ttl"] -= 1
    macs = {"src_mac": PRIVATE_MAC, "dst_mac": p.talk.reached.mac}
    source = p.talk.source if p.talk.full_nat else ROUTER[version(p)]
    quoted = p.talk.from_node(**packet)
    return icmp_error(source, str(p.talk.reached.address), quoted, ttl=63, **macs, **error)


def from_node(p: Play, inner: dict | None = None, **error) -> bytes:
    """An error of the node about a packet that we sent to it."""
    quoted = p.talk.to_node(**(INNER if inner is None else inner))
    macs = {"src_mac": p.talk.reached.mac, "dst_mac": PRIVATE_MAC}
    return icmp_error(str(p.talk.reached.address), p.talk.source, quoted, **macs, **error)


def to_client(p: Play, inner: dict | None = None, **error) -> bytes:
    packet = dict(INNER if inner is None else inner)
    packet["ttl"] -= 1
    macs = {"src_mac": PUBLIC_MAC, "dst_mac": GATEWAY_MAC}
    quoted = p.talk.to_vip(**packet)
    return icmp_error(str(p.talk.service.vip), p.talk.client, quoted, ttl=63, **macs, **error)


def inward(name: str, kinds, error: dict, inner: dict | None = None) -> PacketCase:
    return PacketCase(
        name=f"{name} to the node",
        kinds=kinds,
        given=established,
        packet=lambda p: to_vip(p, inner, **error),
        expect=lambda p: to_node(p, inner, **error),
        verdict=Verdict.REDIRECT,
        reason=Reason.ICMP_TRANSLATED,
        out=PRIVATE,
    )


def outward(name: str, kinds, error: dict, inner: dict | None = None) -> PacketCase:
    return PacketCase(
        name=f"{name} to the client",
        kinds=kinds,
        given=established,
        packet=lambda p: from_node(p, inner, **error),
        expect=lambda p: to_client(p, inner, **error),
        verdict=Verdict.REDIRECT,
        reason=Reason.ICMP_TRANSLATED,
        out=PUBLIC,
        ingress=PRIVATE,
    )


def both(name: str, kinds, error: dict, inner: dict | None = None) -> list[PacketCase]:
    return [inward(name, kinds, error, inner), outward(name, kinds, error, inner)]


QUOTES4 = [28, 29, 36, 40, 41, 60, 100]
QUOTES6 = [48, 49, 56, 60, 61, 100]
OPTIONS = {**INNER, "options": b"\x94\x04\x00\x00"}
NO_CHECKSUM = {**INNER, "checksum": 0}
TRANSLATED = [
    *[case for name, (kinds, error) in ERRORS.items() for case in both(name, kinds, error)],
    *[
        case
        for size in QUOTES4
        for case in both(f"quote of {size} bytes", V4, {"kind": 3, "code": 1, "truncate": size})
    ],
    *[
        case
        for size in QUOTES6
        for case in both(f"quote of {size} bytes", V6, {"kind": 1, "truncate": size})
    ],
    *both("quote with ipv4 options", V4, {"kind": 3, "code": 1}, OPTIONS),
    *both("quote without udp checksum", ("udp4",), {"kind": 3, "code": 3}, NO_CHECKSUM),
    *both("error with a type of service", V4, {"kind": 3, "code": 1, "tos": 0xC0}),
]


def stray(p: Play, port: int) -> bytes:
    """An error to the VIP that quotes an answer of ours that never was."""
    talk = p.talk
    quoted = frame(str(talk.service.vip), talk.client, port, 9, protocol=talk.protocol)
    kind = {4: 3, 6: 1}[version(p)]
    return icmp_error(ROUTER[version(p)], str(talk.service.vip), quoted, kind=kind, code=1)


UNKNOWN = [
    PacketCase(
        name="about a flow of a service that is not known",
        packet=lambda p: stray(p, p.talk.service.port),
        verdict=Verdict.DROP,
        reason=Reason.ICMP_UNKNOWN,
    ),
]


@pytest.mark.parametrize(("mode", "context", "kind", "case"), table(TRANSLATED))
def test_translated(nat, mode, context, kind, case) -> None:
    check(case, nat(mode, context, kind))


@pytest.mark.parametrize(("mode", "context", "kind", "case"), table(UNKNOWN))
def test_unknown(nat, mode, context, kind, case) -> None:
    check(case, nat(mode, context, kind))
