# SPDX-License-Identifier: Apache-2.0
"""Fragments follow their first one; ICMP errors go to the node that they are about."""

from __future__ import annotations

from typing import Any

from galelb.abi import Reason
from galelb.bpf.pipeline import Context
from galelb.testing.cases import Play
from galelb.testing.contract.foreign import another_protocol, untouched
from galelb.testing.contract.stage import Case, Stage, broken, cases
from galelb.testing.packets import fragments, frame, icmp_error
from galelb.testing.world import GATEWAY_MAC, PUBLIC, PUBLIC_MAC

__all__ = ["DatagramRules"]

V4, V6 = ("tcp4", "udp4"), ("tcp6", "udp6")
SIZE = 64
BODY = bytes(range(251))
"""Five fragments, the last one of an odd length."""
PARTS = 5
ROUTER = {4: "100.64.0.1", 6: "2001:db8:abc::1"}
UNREACHABLE = {4: 3, 6: 1}
REDIRECT = {4: 5, 6: 137}
FOLLOW = "Fragments go where the first one of their datagram went."
OWNER = "An ICMP error goes to the node that sent what it quotes."
ALONE = "An ICMP error that is about no flow to a service is passed as it is."


def part(p: Play, n: int, *, port: int = 0, address: int = 0, client: str = "") -> bytes:
    """Return a fragment of a datagram to the service, or to nearly the service."""
    talk, service = p.talk, p.talk.service
    target, to = str(service.vip + address), service.port + port
    whole = frame(
        client or talk.client, target, talk.client_port, to, protocol=talk.protocol, payload=BODY
    )
    return fragments(whole, SIZE)[n]


def of_another_protocol(p: Play) -> bytes:
    """Return a later fragment of a protocol without services."""
    data = part(p, 1)
    return another_protocol(data) if data[14] >> 4 == 4 else data[:54] + b"\x84" + data[55:]


def stranger(p: Play) -> str:
    """Return a client that sent nothing yet."""
    number = p.talk.client_port
    v6 = p.talk.service.vip.version == 6
    return f"2001:db8:e::{number:x}" if v6 else f"198.18.{number >> 8}.{number & 255}"


def answer(p: Play, *, port: int = 0, address: int = 0, **more: Any) -> bytes:
    """Return what a node's answer looks like to a router between it and the client."""
    talk, service = p.talk, p.talk.service
    values: dict[str, Any] = {
        "protocol": talk.protocol,
        "ttl": 40,
        "payload": bytes(range(200)),
    } | more
    vip, own = str(service.vip + address), service.port + port
    return frame(vip, talk.client, own, talk.client_port, **values)


def error(p: Play, quoted: bytes, *, address: int = 0, **how: Any) -> bytes:
    """Return a router's error about it, to who is said to have sent it."""
    vip = p.talk.service.vip
    macs = {"src_mac": GATEWAY_MAC, "dst_mac": PUBLIC_MAC}
    values: dict[str, Any] = {"kind": UNREACHABLE[vip.version]} | macs | how
    return icmp_error(ROUTER[vip.version], str(vip + address), quoted, **values)


def _error(name: str, kinds: tuple[str, ...], **how: Any) -> Case:
    return Case(name=name, kinds=kinds, packet=lambda p: error(p, answer(p), **how))


def _alone(name: str, packet: Any) -> Case:
    return Case(name=name, packet=packet, reason=Reason.PASS_FOREIGN)


ERRORS = [
    _error("frag needed", V4, kind=3, code=4, rest=1400),
    _error("host unreachable", V4, kind=3, code=1),
    _error("port unreachable", V4, kind=3, code=3),
    _error("ttl exceeded", V4, kind=11),
    _error("parameter problem", V4, kind=12, rest=20 << 24),
    _error("packet too big", V6, kind=2, rest=1400),
    _error("no route", V6, kind=1),
    _error("hop limit exceeded", V6, kind=3),
    _error("parameter problem v6", V6, kind=4, rest=40),
    *[_error(f"quotes {n} bytes", V4, truncate=n) for n in (28, 29, 40, 60)],
    *[_error(f"quotes {n} bytes v6", V6, truncate=n) for n in (48, 49, 60, 100)],
    Case(
        name="quotes ip options",
        kinds=V4,
        packet=lambda p: error(p, answer(p, options=b"\x94\x04\x00\x00")),
    ),
    _error("type of service is kept", V4, tos=0x10),
]
ALONES = [
    _alone("about another port of the vip", lambda p: error(p, answer(p, port=7000))),
    _alone("about another address", lambda p: error(p, answer(p, address=1), address=1)),
    _alone("a redirect", lambda p: error(p, answer(p), kind=REDIRECT[p.talk.service.vip.version])),
    _alone("quotes another sender", lambda p: error(p, answer(p, address=1))),
    _alone("quotes too little", lambda p: error(p, answer(p), truncate=12)),
]
FOREIGN = [
    _alone("of another protocol", of_another_protocol),
    _alone("to another address", lambda p: part(p, 1, address=1)),
    _alone("first, to another port", lambda p: part(p, 0, port=7000)),
]


class DatagramRules(Stage):
    """Part of the contract: what has no ports of its own."""

    def test_all_fragments_of_a_datagram_go_to_one_node(self, context: Context, kind: str) -> None:
        """The first one like any packet, the later ones after it, in any order."""
        play = self.start(context, kind)
        first = self.demand(play, part(play, 0), FOLLOW, Reason.FORWARDED)

        for number in (1, 3, 2, PARTS - 1):
            data = part(play, number)
            outcome = self.demand(play, data, FOLLOW, Reason.FRAGMENT_FOLLOWED)
            if outcome.node != first.node:
                broken(FOLLOW, data, PUBLIC, outcome, f"the first went to node {first.node}")

    def test_later_fragments_without_a_first_are_dropped(self, context: Context, kind: str) -> None:
        """One that is not known might be of a packet to the service."""
        rule = "A later fragment whose first is not known is dropped: it may be for a service."
        play = self.start(context, kind)

        self.demand(play, part(play, 1), rule, Reason.FRAGMENT_UNKNOWN)
        self.demand(play, part(play, 0), FOLLOW, Reason.FORWARDED)
        self.demand(play, part(play, 1, client=stranger(play)), rule, Reason.FRAGMENT_UNKNOWN)

    @cases(FOREIGN)
    def test_fragments_of_others_pass(self, context: Context, kind: str, case: Case) -> None:
        """Another protocol, address or port."""
        play = self.start(context, kind)
        data = case.packet(play)

        untouched(data, PUBLIC, self.demand(play, data, FOLLOW, case.reason))

    def test_fragments_follow_their_first_to_the_kernel(self, context: Context, kind: str) -> None:
        """What is not for a service is passed whole."""
        play = self.start(context, kind)
        for number in range(PARTS):
            data = part(play, number, port=7000)

            untouched(data, PUBLIC, self.demand(play, data, FOLLOW, Reason.PASS_FOREIGN))

    @cases(ERRORS)
    def test_errors_go_to_the_node_that_sent_what_they_quote(
        self, context: Context, kind: str, case: Case
    ) -> None:
        """Path MTU discovery of the nodes depends on it."""
        play = self.start(context, kind)
        self.send(play, play.talk.to_vip(**({"flags": "S"} if play.tcp else {})), OWNER)
        data = case.packet(play)

        outcome = self.demand(play, data, OWNER, Reason.ICMP_TRANSLATED)

        if outcome.node != play.talk.reached.index:
            node = play.talk.reached.index
            broken(OWNER, data, PUBLIC, outcome, f"the flow is node {node}'s")

    @cases(ALONES)
    def test_errors_about_something_else_pass(
        self, context: Context, kind: str, case: Case
    ) -> None:
        """Whatever is not about a flow to a service."""
        play = self.start(context, kind)
        data = case.packet(play)

        untouched(data, PUBLIC, self.demand(play, data, ALONE, case.reason), ALONE)
