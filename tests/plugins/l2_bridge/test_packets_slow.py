# SPDX-License-Identifier: Apache-2.0
"""Packet table of l2_bridge: fragments, ICMP errors."""

from __future__ import annotations

import pytest

from galelb.abi import Reason
from galelb.testing.cases import EVERY_KIND, PacketCase, Play, check, opened
from galelb.testing.packets import fragments, frame, icmp_error
from galelb.testing.runner import Verdict
from galelb.testing.world import GATEWAY_MAC, PRIVATE, PRIVATE_MAC, PUBLIC_MAC

pytestmark = pytest.mark.bpf

V4 = ("tcp4", "udp4")
V6 = ("tcp6", "udp6")
SIZE = 64
BODY = {"payload": bytes(range(251))}
"""Five fragments, the last one of an odd length."""
ROUTER = {4: "100.64.0.1", 6: "2001:db8:abc::1"}
WAYS = [(context, kind) for context in ("xdp", "tc") for kind in EVERY_KIND]


def ways(cases):
    return [(c, k, case) for case in cases for c in case.contexts for k in case.kinds]


def with_macs(data: bytes, src: str, dst: str) -> bytes:
    return bytes.fromhex((dst + src).replace(":", "")) + data[12:]


def at_node(p: Play, data: bytes) -> bytes:
    return with_macs(data, PRIVATE_MAC, p.talk.reached.mac)


# fragments


def part(p: Play, n: int, *, port: int = 0, address: int = 0, client: str = "") -> bytes:
    talk, service = p.talk, p.talk.service
    whole = frame(
        client or talk.client,
        str(service.vip + address),
        talk.client_port,
        service.port + port,
        protocol=talk.protocol,
        **BODY,
    )
    return fragments(whole, SIZE)[n]


def first_forwarded(p: Play) -> None:
    p.send(part(p, 0))


def first_passed(p: Play) -> None:
    p.send(part(p, 0, port=7000))


def other_protocol(p: Play) -> bytes:
    data = bytearray(part(p, 1))
    data[14 + (9 if data[14] >> 4 == 4 else 40)] = 132
    return bytes(data)


def stranger(p: Play) -> str:
    number = p.talk.client_port
    v6 = p.talk.service.vip.version == 6
    return f"2001:db8:e::{number:x}" if v6 else f"198.18.{number >> 8}.{number & 255}"


def goes(name: str, n: int, given=first_forwarded, reason=Reason.FRAGMENT_FOLLOWED) -> PacketCase:
    return PacketCase(
        name=name,
        packet=lambda p: part(p, n),
        expect=lambda p: at_node(p, part(p, n)),
        verdict=Verdict.REDIRECT,
        reason=reason,
        out=PRIVATE,
        given=given,
    )


def passes(name: str, packet, **more) -> PacketCase:
    return PacketCase(
        name=name, packet=packet, verdict=Verdict.PASS, reason=Reason.PASS_FOREIGN, **more
    )


def drops(name: str, packet, reason: Reason, **more) -> PacketCase:
    return PacketCase(name=name, packet=packet, verdict=Verdict.DROP, reason=reason, **more)


FRAGMENTS = [
    goes("first", 0, lambda p: None, Reason.FORWARDED),
    goes("first of a known flow", 0, opened, Reason.FORWARDED),
    goes("second", 1),
    goes("out of order after the first", 3),
    goes("last, of an odd length", 4),
    drops("before its first", lambda p: part(p, 1), Reason.FRAGMENT_UNKNOWN),
    passes("of another protocol", other_protocol),
    passes("to another address", lambda p: part(p, 1, address=1)),
    passes("first, to another port", lambda p: part(p, 0, port=7000)),
    passes("follows its first to the kernel", lambda p: part(p, 1, port=7000), given=first_passed),
    drops(
        "same identification, another client",
        lambda p: part(p, 1, client=stranger(p)),
        Reason.FRAGMENT_UNKNOWN,
        given=first_forwarded,
    ),
]


@pytest.mark.parametrize(("context", "kind", "case"), ways(FRAGMENTS))
def test_fragments(bridge, context, kind, case) -> None:
    check(case, bridge(context, kind))


@pytest.mark.parametrize(("context", "kind"), WAYS)
def test_all_fragments_of_a_datagram_go_to_one_node(bridge, context, kind) -> None:
    for _ in range(10):
        play = bridge(context, kind)

        nodes = {play.send(part(play, n)).node for n in range(5)}

        assert len(nodes) == 1


# ICMP errors

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
MACS = {"src_mac": GATEWAY_MAC, "dst_mac": PUBLIC_MAC}


def answer(p: Play, *, port: int = 0, address: int = 0, **more) -> bytes:
    """What a node sent to the client, as a router on the way saw it."""
    talk, service = p.talk, p.talk.service
    arguments = {"protocol": talk.protocol, "ttl": 40, "payload": bytes(range(200))} | more
    vip, own = str(service.vip + address), service.port + port
    return frame(vip, talk.client, own, talk.client_port, **arguments)


def error(p: Play, quoted: bytes, *, address: int = 0, **how) -> bytes:
    """A router's error about it, to who is said to have sent it."""
    vip = p.talk.service.vip
    return icmp_error(ROUTER[vip.version], str(vip + address), quoted, **MACS, **how)


def to_owner(name: str, kinds, how: dict, quoted: dict | None = None) -> PacketCase:
    return PacketCase(
        name=name,
        kinds=kinds,
        given=opened,
        packet=lambda p: error(p, answer(p, **(quoted or {})), **how),
        expect=lambda p: at_node(p, error(p, answer(p, **(quoted or {})), **how)),
        verdict=Verdict.REDIRECT,
        reason=Reason.ICMP_TRANSLATED,
        out=PRIVATE,
    )


FRAG_NEEDED, TOO_BIG = ERRORS["frag needed"][1], ERRORS["packet too big"][1]
UNREACHABLE = {4: {"kind": 3, "code": 1}, 6: {"kind": 1}}
OWNED = [
    *[to_owner(name, kinds, how) for name, (kinds, how) in ERRORS.items()],
    *[
        to_owner(f"quotes {n} bytes", V4, {**FRAG_NEEDED, "truncate": n})
        for n in (28, 29, 36, 40, 60, 100)
    ],
    *[to_owner(f"quotes {n} bytes v6", V6, {**TOO_BIG, "truncate": n}) for n in (48, 49, 60, 100)],
    to_owner("quotes ip options", V4, FRAG_NEEDED, {"options": b"\x94\x04\x00\x00"}),
    to_owner("type of service is kept", V4, {**FRAG_NEEDED, "tos": 0x10}),
    to_owner("ttl 1 is not decremented", V4, {**FRAG_NEEDED, "ttl": 1}),
]


def unreachable(p: Play, *, quoted_port: int = 0, address: int = 0, **how) -> bytes:
    how = UNREACHABLE[p.talk.service.vip.version] | how
    return error(p, answer(p, port=quoted_port, address=address), address=address, **how)


def redirect(p: Play) -> bytes:
    return unreachable(p, kind={4: 5, 6: 137}[p.talk.service.vip.version], code=1)


def lies(p: Play) -> bytes:
    """It quotes a packet that another address than the one told is said to have sent."""
    return error(p, answer(p, address=1), **UNREACHABLE[p.talk.service.vip.version])


UNOWNED = [
    passes("about another port of the vip", lambda p: unreachable(p, quoted_port=7000)),
    passes("about another address", lambda p: unreachable(p, address=1)),
    passes("a redirect", redirect),
    passes("quotes another sender", lambda p: lies(p)),
    passes("quotes too little", lambda p: unreachable(p, truncate=12)),
]


@pytest.mark.parametrize(("context", "kind", "case"), ways(OWNED))
def test_errors_go_to_the_node_that_sent_what_they_quote(bridge, context, kind, case) -> None:
    check(case, bridge(context, kind))


@pytest.mark.parametrize(("context", "kind", "case"), ways(UNOWNED))
def test_errors_about_something_else_pass(bridge, context, kind, case) -> None:
    check(case, bridge(context, kind))


@pytest.mark.parametrize("kind", ["empty4", "empty6"])
def test_an_error_without_a_routable_node_is_dropped(bridge, kind) -> None:
    play = bridge("xdp", kind)

    outcome = play.send(unreachable(play))

    assert (Verdict.DROP, Reason.NO_NODE) == (outcome.verdict, outcome.reason)
