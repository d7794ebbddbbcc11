# SPDX-License-Identifier: Apache-2.0
"""The data path in plain Python, readable and slow: what must become of a frame.

It predicts verdict, reason, node and bytes from the rules of the documentation, not from the C.
What all forwarders share is here: matching, choice of the node, fragments, ICMP errors, TTL, MTU,
messages of our own, the link layer. What one of them does is a `ForwarderModel`.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_network

import attrs

from galelb.abi import Reason
from galelb.flowhash import flow_slot
from galelb.model import Interface, IPAddress
from galelb.testing.dissect import dissect
from galelb.testing.model.forwarders import ForwarderModel, Packet
from galelb.testing.model.messages import TIME_EXCEEDED, TOO_BIG, message
from galelb.testing.model.quotes import is_error, quoted
from galelb.testing.model.values import (
    NOT_MINE,
    Arrived,
    Fate,
    Prediction,
    dropped,
    mac,
    passed,
    sent,
)
from galelb.testing.packets import l3_offset
from galelb.testing.runner import TABLE_SEED, Outcome, PacketRunner, Verdict
from galelb.testing.world import LOCAL_CLIENTS, LOCAL_MAC, TestNode

__all__ = ["ReferenceModel"]

TCP, UDP = 6, 17
V6 = 6
FIRST_MULTICAST = 224
TO_NODE = (Reason.FORWARDED, Reason.FRAGMENT_FOLLOWED, Reason.ICMP_TRANSLATED)
ETHERTYPES = {4: b"\x08\x00", 6: b"\x86\xdd"}

_Flow = tuple[IPAddress, int]
_Datagram = tuple[IPAddress, IPAddress, int, int, int]


@attrs.frozen(kw_only=True)
class _Note:
    """What was done with a first fragment; without a node it was passed."""

    service: int = 0
    node: TestNode | None = None
    flow: _Flow | None = None


class ReferenceModel:
    """Predicts the frames of a runner, in the order in which they are run.

    `parts` model the runner's forwarders, by name.
    """

    def __init__(self, runner: PacketRunner, parts: Mapping[str, ForwarderModel]) -> None:
        self.world = runner.world
        self.services = runner.services
        self._parts = {n: parts[service.forwarder] for n, service in runner.services.items()}
        self._claiming = [part for part in parts.values() if part.claims]
        self.seed = TABLE_SEED
        self._tables = runner.tables
        self._tc = runner.context == "tc"
        self._notes: dict[_Datagram, _Note] = {}
        self.nodes = {node.address: node for node in runner.world.nodes}
        for part in parts.values():
            part.join(self)

    def predict(self, data: bytes, ingress: str) -> Prediction | None:
        """Return what must become of a frame, or None for what the model leaves out."""
        packet = dissect(data)
        if packet is None:
            return passed(data, Reason.PASS_UNPARSABLE)
        arrived = Arrived(data=data, ingress=ingress, packet=packet, error=is_error(data, packet))
        if len(packet.vlans) > 1:
            return self._foreign(arrived)
        if packet.later_fragment:
            return self._later_fragment(arrived)
        if arrived.error:
            return self._error(arrived)
        if packet.protocol not in (TCP, UDP):
            return self._foreign(arrived)
        number = self._match(packet.dst, packet.dport, packet.protocol, arrived.vlan)
        if number:
            return self._forward(attrs.evolve(arrived, service=number))
        return self._claim(arrived)

    def check(self, prediction: Prediction, outcome: Outcome) -> list[str]:
        """Return what is wrong with what became of the frame, and learn from it what was open."""
        problems = prediction.problems(outcome)
        if problems or prediction.opens is None or outcome.reason is not Reason.FORWARDED:
            return problems
        return self._parts[prediction.opens[2]].learn(prediction, outcome.data)

    def bare(self, outcome: Outcome) -> bytes:
        """Return the frame that left, out of its tunnel if it is in one."""
        if outcome.reason not in TO_NODE or outcome.service not in self._parts:
            return outcome.data
        at = l3_offset(outcome.data)
        inside = self._parts[outcome.service].unwrapped(outcome.data[at:])
        return outcome.data[: at - 2] + ETHERTYPES[inside[0] >> 4] + inside

    # which service, which node

    def _match(self, vip: IPAddress, port: int, protocol: int, vlan: int) -> int:
        """Return the id of the service, or 0."""
        wanted = (vip, port, protocol, vlan)
        for number, service in self.services.items():
            if wanted == (service.vip, service.port, service.protocol, service.vlan):
                return number
        return 0

    def _has(self, arrived: Arrived) -> int:
        """Return the first service of the address and protocol, or 0: a fragment has no port."""
        packet = arrived.packet
        wanted = (packet.dst, packet.protocol, arrived.vlan)
        for number, service in self.services.items():
            if wanted == (service.vip, service.protocol, service.vlan):
                return number
        return 0

    def choose(self, flow: _Flow, number: int) -> TestNode | None:
        """Return the node that a service's lookup table names for a client's flow."""
        table = self._tables.get(number)
        return table[flow_slot(*flow, self.seed, len(table))] if table else None

    # what becomes of it

    def _forward(self, arrived: Arrived) -> Prediction | None:
        part, packet = self._parts[arrived.service], arrived.packet
        if part.claims:
            return part.forward(arrived)
        return self._to_node(arrived, part, (packet.src, packet.sport))

    def _claim(self, arrived: Arrived) -> Prediction | None:
        for part in self._claiming:
            if (claimed := part.claim(arrived)) is not NOT_MINE:
                return claimed
        return self._foreign(arrived)

    def _error(self, arrived: Arrived) -> Prediction | None:
        """Predict an ICMP error: it goes to the node that sent what it quotes."""
        quote = quoted(arrived)
        if quote is None or quote.src != arrived.packet.dst:
            return self._foreign(arrived)
        number = self._match(quote.src, quote.sport, quote.protocol, arrived.vlan)
        known = attrs.evolve(arrived, service=number)
        if number and not self._parts[number].claims:
            return self._to_node(known, self._parts[number], (quote.dst, quote.dport))
        for part in [self._parts[number]] if number else self._claiming:
            if (claimed := part.error(known, quote)) is not NOT_MINE:
                return claimed
        return self._foreign(arrived)

    def _to_node(self, arrived: Arrived, part: ForwarderModel, flow: _Flow) -> Prediction:
        """Predict what a stateless forwarder sends to the node of a flow."""
        node = self.choose(part.node_key(*flow), arrived.service)
        if node is None:
            return dropped(Reason.NO_NODE, arrived.service)
        from_nodes = arrived.ingress == self.world.private.name
        if from_nodes and not arrived.error and arrived.packet.src in self.nodes:
            return dropped(Reason.HAIRPIN, arrived.service)
        reason = Reason.ICMP_TRANSLATED if arrived.error else Reason.FORWARDED
        prediction = self._send(arrived, part, node, flow, reason)
        if arrived.first_fragment and prediction.fates[0].reason is reason:
            note = _Note(service=arrived.service, node=node, flow=flow)
            self._notes[_datagram(arrived)] = note
        return prediction

    def _later_fragment(self, arrived: Arrived) -> Prediction | None:
        if self._claiming:
            return None
        note = self._notes.get(_datagram(arrived))
        if note is None:
            number = self._has(arrived)
            return dropped(Reason.FRAGMENT_UNKNOWN, number) if number else self._foreign(arrived)
        if note.node is None or note.flow is None:
            return self._foreign(arrived)
        followed = attrs.evolve(arrived, service=note.service)
        part = self._parts[note.service]
        return self._send(followed, part, note.node, note.flow, Reason.FRAGMENT_FOLLOWED)

    def _foreign(self, arrived: Arrived) -> Prediction:
        """Predict that it is passed; fragments that follow it are passed too."""
        if arrived.first_fragment:
            self._notes[_datagram(arrived)] = _Note()
        return passed(arrived.data, Reason.PASS_FOREIGN)

    def _send(
        self, arrived: Arrived, part: ForwarderModel, node: TestNode, flow: _Flow, reason: Reason
    ) -> Prediction:
        packet = Packet(arrived=arrived, node=node, flow=flow, service=arrived.service)
        out, overhead = self.world.private, part.overhead(packet)
        if arrived.ingress == out.name and arrived.data.startswith(mac(node.mac)):
            return self._foreign(arrived)  # another balancer's, on its way to the node
        if stopped := self.stopped(arrived, out, overhead=overhead, one_hop=part.one_hop):
            return stopped
        data = self.link(arrived, self.world.private, node.mac, part.rewritten(packet))
        return sent(self.verdict(arrived, self.world.private), reason, packet.service, node, data)

    def stopped(
        self, arrived: Arrived, out: Interface, *, overhead: int = 0, one_hop: bool = True
    ) -> Prediction | None:
        """Predict what cannot go on: it has no hop left, or is larger than the way out."""
        if one_hop and arrived.packet.ttl <= 1:
            return self.answered(arrived, TIME_EXCEEDED)
        room = out.mtu - overhead
        return self.answered(arrived, TOO_BIG, mtu=room) if arrived.size > room else None

    def verdict(self, arrived: Arrived, out: Interface) -> Verdict:
        """Return how a frame leaves by an interface."""
        same = arrived.ingress == out.name and not self._tc
        return Verdict.TX if same else Verdict.REDIRECT

    def link(
        self, arrived: Arrived, out: Interface, target: str, ip: bytes, push: int = 0
    ) -> bytes:
        """Return the frame: a tag stays only when it leaves by the interface that it came by.

        `push` is the tag that it gets otherwise. Under TC a tag that was pushed, or that a
        wrapped packet has, lies beside the frame.
        """
        tags = b"\x81\x00" + push.to_bytes(2, "big") if push and not self._tc else b""
        if arrived.ingress == out.name:
            wrapped = len(ip) > len(arrived.ip)
            tags = b"" if self._tc and wrapped else arrived.data[12 : arrived.packet.l3 - 2]
        return mac(target) + mac(out.mac) + tags + ETHERTYPES[ip[0] >> 4] + ip

    def way_to(self, client: IPAddress) -> tuple[Interface, str] | None:
        """Return interface and MAC of the way to a client; None = the kernel would have to ask."""
        node = self.nodes.get(client)
        if node is not None:
            return self.world.private, node.mac
        if str(client) == LOCAL_CLIENTS[client.version]:
            return self.world.private, LOCAL_MAC
        near = any(_on_link(i, client) for i in (self.world.public, self.world.private))
        return None if near or _is_special(client) else self.world.hosts[0]

    def answered(self, arrived: Arrived, kind: str, *, mtu: int = 0) -> Prediction:
        """Predict a message of ours, or a drop when there were too many or it may not be."""
        reason = Reason.TTL_EXCEEDED if kind == TIME_EXCEEDED else Reason.TOO_BIG
        drop = Fate(verdict=Verdict.DROP, reason=reason, service=arrived.service)
        one_host = _is_one_host(arrived.packet.src) and not arrived.data[6] & 1
        if arrived.error or arrived.packet.later_fragment or not one_host:
            return Prediction(fates=(drop,))
        data = message(arrived.data, arrived.packet, kind, mtu=mtu, tc=self._tc)
        verdict = Verdict.REDIRECT if self._tc else Verdict.TX
        told = Fate(
            verdict=verdict,
            reason=Reason.ICMP_SENT,
            service=arrived.service,
            node=None,
            data=data,
        )
        return Prediction(fates=(told, drop))


def _on_link(interface: Interface, address: IPAddress) -> bool:
    prefix = {4: 24, 6: 64}[address.version]
    own = [one for one in interface.addresses if one.version == address.version]
    return any(address in ip_network(f"{one}/{prefix}", strict=False) for one in own)


def _is_one_host(address: IPAddress) -> bool:
    if address.version == V6:
        return not (address.is_multicast or address.is_unspecified or address.is_loopback)
    return 0 < address.packed[0] < FIRST_MULTICAST and not address.is_loopback


def _is_special(address: IPAddress) -> bool:
    """Whether routes do not lead there as they lead elsewhere."""
    routed = not (address.is_multicast or address.is_loopback or address.is_link_local)
    return not routed or address.is_unspecified or address.is_reserved


def _datagram(arrived: Arrived) -> _Datagram:
    """Return what all fragments of a datagram share."""
    packet = arrived.packet
    protocol = packet.protocol if packet.version == 4 else 0
    vlan = arrived.vlan if len(packet.vlans) < 2 else -1
    return packet.src, packet.dst, packet.ident, protocol, vlan
