# SPDX-License-Identifier: Apache-2.0
"""Packets to a service reach a node, as the model says, and nothing is lost on the way."""

from __future__ import annotations

from typing import Any

from galelb.abi import Reason
from galelb.bpf.pipeline import Context
from galelb.testing.cases import Play, opened
from galelb.testing.checksums import checksum_problems
from galelb.testing.contract.stage import Case, Stage, broken, cases
from galelb.testing.dissect import dissect
from galelb.testing.packets import extension, frame, l3_offset
from galelb.testing.runner import Outcome, Verdict
from galelb.testing.world import PRIVATE, PRIVATE_MAC, PUBLIC

__all__ = ["ForwardingRules"]

TCP, UDP = ("tcp4", "tcp6"), ("udp4", "udp6")
V4, V6 = ("tcp4", "udp4"), ("tcp6", "udp6")
VLAN = ("vlan4", "vlan6")
PRIORITY = 3 << 13
MTU = 1300
FORWARDED = "A packet to a service must reach a node, with nothing changed but what must change."


def _row(name: str, kinds: tuple[str, ...] = (*V4, *V6), given: Any = None, **packet: Any) -> Case:
    return Case(name=name, packet=lambda p: p.talk.to_vip(**packet), kinds=kinds, given=given)


ROWS = [
    _row("syn", TCP, flags="S"),
    _row("syn with options", TCP, flags="S", tcp_options=[("MSS", 1460)]),
    _row("ack without a syn", TCP, flags="A"),
    _row("ack of a known flow", TCP, opened, flags="A"),
    _row("fin of a known flow", TCP, opened, flags="FA"),
    _row("rst of a known flow", TCP, opened, flags="R"),
    _row("data", TCP, flags="PA", payload=b"GET / HTTP/1.1\r\n"),
    _row("datagram", UDP, payload=b"query"),
    _row("empty datagram", UDP, payload=b""),
    _row("datagram of a known flow", UDP, opened, payload=b"query"),
    _row("udp checksum 0 stays 0", ("udp4",), checksum=0, payload=b"q"),
    _row("type of service is kept", tos=0xB8),
    _row("ecn bits are kept", tos=0x03),
    _row("flow label is kept", V6, flow_label=0xABCDE),
    _row("identification is kept", V4, ident=0xBEEF),
    _row("don't fragment is kept", V4, df=True),
    _row("ttl 2", ttl=2),
    _row("ttl 255", ttl=255),
    _row("padding", V4, minimum=60),
    _row("ipv4 options", V4, options=b"\x94\x04\x00\x00"),
    _row("forty bytes of ipv4 options", V4, options=b"\x01" * 40),
    _row("large segment", payload=b"\xa5" * 1300),
    _row("odd length", payload=b"\xa5" * 1299),
    *[_row(f"extension {name}", V6, extensions=[extension(name)]) for name in ("hop", "atomic")],
    _row("destination and routing", V6, extensions=[extension("dest"), extension("routing")]),
    _row("authentication", V6, extensions=[extension("auth"), extension("dest")]),
    _row("many extensions", V6, extensions=[extension("hop", 16), extension("dest")] * 2),
    _row("a priority tag", vlans=[PRIORITY]),
    _row("vlan service, its tag", VLAN),
    _row("vlan service, its tag and a priority", VLAN, vlans=[PRIORITY | 5]),
]


class ForwardingRules(Stage):
    """Part of the contract: what is for a service."""

    @cases(ROWS)
    def test_packets_reach_a_node(self, context: Context, kind: str, case: Case) -> None:
        """Flags, options, extension headers, type of service, tags, checksums."""
        play = self.start(context, kind)
        if case.given is not None:
            self.send(play, _first(play), FORWARDED)
        data = case.packet(play)

        outcome = self.demand(play, data, FORWARDED, Reason.FORWARDED)

        if outcome.out != PRIVATE:
            broken(FORWARDED, data, PUBLIC, outcome, f"must leave by {PRIVATE}")
        if problems := checksum_problems(self.model_of(play.runner).bare(outcome)):
            broken("Checksums must be right.", data, PUBLIC, outcome, *problems)

    def test_packets_leave_by_the_interface_of_the_node(self, context: Context, kind: str) -> None:
        """Also when that is the one that they came by; a tag stays then."""
        rule = "A packet may leave by the interface that it came by."
        for name in (kind, f"vlan{kind[-1]}"):
            play = self.start(context, name, local=True)
            data = play.talk.to_vip(payload=b"there")

            outcome = self.demand(play, data, rule, Reason.FORWARDED, PRIVATE)

            wanted = Verdict.REDIRECT if context == "tc" else Verdict.TX
            if (outcome.verdict, outcome.out) != (wanted, PRIVATE):
                broken(rule, data, PRIVATE, outcome, f"must be {wanted.name} on {PRIVATE}")

    def test_the_last_hop_is_answered(self, context: Context, kind: str) -> None:
        """Where packets lose a hop, ICMP time exceeded comes from the VIP; else they go on."""
        for ttl in (0, 1):
            play = self.start(context, kind)
            data = play.talk.to_vip(ttl=ttl, payload=b"far away from home")

            if self.model.one_hop:
                rule = "A TTL that would reach 0 is answered from the VIP: time exceeded."
                self.demand(play, data, rule, Reason.ICMP_SENT)
            else:
                rule = "The TTL is the node's business when packets lose no hop."
                self.demand(play, data, rule, Reason.FORWARDED)

    def test_packets_larger_than_the_way_out_are_answered(
        self, context: Context, kind: str
    ) -> None:
        """Frag needed or packet too big, with the MTU that is left, headers of tunnels off."""
        rule = "A packet larger than the way out is answered from the VIP, with the right MTU."
        play = self.start(context, kind)
        first = _first(play)
        grown = _size(play.send(first).data) - _size(first)
        node, world, room = play.talk.reached, play.runner.world, MTU - grown
        play.runner.set_next_hop(node.index, world.private, node.mac, mtu=MTU)
        head = _size(play.talk.to_vip())

        exact = play.send(play.talk.to_vip(payload=b"x" * (room - head)))
        large = play.talk.to_vip(payload=b"x" * (room - head + 1))
        above = play.send(large)

        if exact.reason is not Reason.FORWARDED:
            broken(rule, large, PUBLIC, exact, f"one byte less fits: {MTU} with all headers")
        self._check_too_big(play, large, above, room, rule)

    def _check_too_big(
        self, play: Play, data: bytes, outcome: Outcome, mtu: int, rule: str
    ) -> None:
        told = dissect(outcome.data)
        if outcome.reason is not Reason.ICMP_SENT or told is None:
            broken(rule, data, PUBLIC, outcome)
            return
        said = int.from_bytes(outcome.data[told.l4 + 4 : told.l4 + 8], "big")
        if (str(told.src), said) != (str(play.talk.service.vip), mtu):
            broken(rule, data, PUBLIC, outcome, f"says {said} from {told.src}, not {mtu}")

    def test_a_node_that_is_a_client_is_carried_or_refused(
        self, context: Context, kind: str
    ) -> None:
        """The model says which; a forwarder that cannot carry it counts `hairpin`."""
        rule = "A node that is a client is forwarded as any, or dropped and counted as hairpin."
        play = self.start(context, kind)
        version = play.talk.service.vip.version
        for node in (n for n in play.runner.world.nodes if n.address.version == version):
            data = frame(
                str(node.address),
                str(play.talk.service.vip),
                play.talk.client_port,
                play.talk.service.port,
                protocol=play.talk.protocol,
                src_mac=node.mac,
                dst_mac=PRIVATE_MAC,
            )

            outcome = self.send(play, data, rule, PRIVATE)

            if outcome.reason not in (Reason.FORWARDED, Reason.HAIRPIN):
                broken(rule, data, PRIVATE, outcome)


def _first(play: Play) -> bytes:
    """Return the packet that a client begins with."""
    return play.talk.to_vip(**({"flags": "S"} if play.tcp else {}))


def _size(data: bytes) -> int:
    """Return bytes of the IP packet; there is no padding."""
    return len(data) - l3_offset(data)
