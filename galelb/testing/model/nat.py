# SPDX-License-Identifier: Apache-2.0
"""l4_nat in plain Python. It leaves out what has tables of its own: fragments, expiry."""

from __future__ import annotations

import attrs

from galelb.abi import Reason
from galelb.model import Interface, IPAddress, Service
from galelb.testing.dissect import Dissected, dissect
from galelb.testing.model.forwarders import ForwarderModel, Packet
from galelb.testing.model.values import (
    NOT_MINE,
    Arrived,
    Fate,
    Prediction,
    dropped,
    mac,
    sent,
)
from galelb.testing.packets import ETHERNET
from galelb.testing.rewriting import Quoted, Translation, translate, translate_error
from galelb.testing.world import TestNode

__all__ = ["KnownFlow", "NatModel"]

TCP = 6
FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10

_FlowKey = tuple[IPAddress, int, int]
_BackKey = tuple[IPAddress, int, IPAddress, int, int]


@attrs.define(kw_only=True)
class KnownFlow:
    """A flow with all that a client and a node could see of it."""

    service: int
    client: IPAddress
    client_port: int
    node: TestNode
    source: IPAddress
    port: int
    closed_by: set[str] = attrs.Factory(set)
    reset_by: set[str] = attrs.Factory(set)

    def note(self, side: str, flags: int) -> None:
        """Remember what a side's TCP packet said; only the last one counts as a RST."""
        self.reset_by.discard(side)
        if flags & RST:
            self.reset_by.add(side)
        if flags & FIN:
            self.closed_by.add(side)

    @property
    def finished(self) -> bool:
        """Whether a SYN would begin a new flow."""
        return bool(self.reset_by) or len(self.closed_by) == 2


class NatModel(ForwarderModel):
    """Both modes of l4_nat. A new flow's address and port are learned from its first packet."""

    one_hop = True
    claims = True

    def __init__(self, *, full_nat: bool) -> None:
        self._full_nat = full_nat
        self._flows: dict[_FlowKey, KnownFlow] = {}
        self._back: dict[_BackKey, KnownFlow] = {}
        self._hidden: set[_FlowKey] = set()
        """Flows whose first packet was not forwarded, so that nobody saw their port."""
        self._hidden_ends: set[tuple[IPAddress, int]] = set()
        """Address and port of the nodes of those."""

    def flows(self) -> list[KnownFlow]:
        """Return the flows that the model has seen opening."""
        return list(self._flows.values())

    def service(self, flow: KnownFlow) -> Service:
        """Return the service of a flow."""
        return self.pipeline.services[flow.service]

    def rewritten(self, packet: Packet) -> bytes:
        """Never asked: `forward` and `claim` answer for all packets."""
        raise AssertionError(packet)

    def learn(self, prediction: Prediction, output: bytes) -> list[str]:
        """Take the new flow's node and port from its first packet; returns what is wrong."""
        packet = dissect(output)
        if prediction.opens is None or packet is None:
            return ["no new flow was expected"]
        client, port, number = prediction.opens
        service = self.pipeline.services[number]
        node = self.pipeline.nodes.get(packet.dst)
        if node is None or node != self.pipeline.choose((client, port), number):
            return [f"went to {packet.dst}, not to the node that the table names"]
        if _back_key(_turned(packet)) in self._back:
            return [f"port {packet.sport} of {packet.src} is in use already"]
        if not self._full_nat and (packet.src, packet.sport) != (client, port):
            return ["dnat changed the client's address or port"]
        flow = KnownFlow(
            service=number,
            client=client,
            client_port=port,
            node=node,
            source=packet.src,
            port=packet.sport,
        )
        if prediction.opens in self._hidden:
            flow.note("client", packet.tcp_flags)
        self._flows[prediction.opens] = flow
        self._back[_back_key(_turned(packet))] = flow
        return [] if packet.dport == service.target_port else ["wrong target port"]

    # from the client

    def forward(self, arrived: Arrived) -> Prediction | None:
        """Predict a client's packet; a fragment only does to its flow what it does."""
        packet = arrived.packet
        if packet.fragment:
            self._forward(attrs.evolve(arrived, packet=attrs.evolve(packet, ttl=1)))
            return None
        return self._forward(arrived)

    def _forward(self, arrived: Arrived) -> Prediction:
        packet = arrived.packet
        key = (packet.src, packet.sport, arrived.service)
        flow = self._flows.get(key)
        begins = packet.protocol == TCP and packet.tcp_flags & (SYN | ACK) == SYN
        if flow is not None and flow.finished and begins:
            self._forget(flow)
            flow = None
        if flow is None:
            return self._open(arrived, key)
        flow.note("client", packet.tcp_flags)
        if stopped := self.pipeline.stopped(arrived, self.pipeline.world.private):
            return stopped
        return self._translated(arrived, flow)

    def _translated(self, arrived: Arrived, flow: KnownFlow) -> Prediction:
        private = self.pipeline.world.private
        to = Translation(
            src=flow.source,
            sport=flow.port,
            dst=flow.node.address,
            dport=self.service(flow).target_port,
            src_mac=mac(private.mac),
            dst_mac=mac(flow.node.mac),
        )
        ip = translate(arrived.data, arrived.packet, to)[ETHERNET:]
        data = self.pipeline.link(arrived, private, flow.node.mac, ip)
        verdict = self.pipeline.verdict(arrived, private)
        return sent(verdict, Reason.FORWARDED, arrived.service, flow.node, data)

    def _open(self, arrived: Arrived, key: _FlowKey) -> Prediction:
        packet, number = arrived.packet, arrived.service
        if packet.protocol == TCP and packet.tcp_flags & RST and key not in self._hidden:
            return dropped(Reason.NO_FLOW, number)
        node = self.pipeline.choose((packet.src, packet.sport), number)
        if node is None:
            return dropped(Reason.NO_NODE, number)
        if not self._full_nat and packet.src in self.pipeline.nodes:
            return dropped(Reason.HAIRPIN, number)
        if stopped := self.pipeline.stopped(arrived, self.pipeline.world.private):
            self._hidden.add(key)
            self._hidden_ends.add((node.address, self.pipeline.services[number].target_port))
            return stopped
        verdict = self.pipeline.verdict(arrived, self.pipeline.world.private)
        fate = Fate(verdict=verdict, reason=Reason.FORWARDED, service=number, node=node.index)
        return Prediction(fates=(fate,), opens=key)

    def _forget(self, flow: KnownFlow) -> None:
        self._flows = {key: one for key, one in self._flows.items() if one is not flow}
        self._back = {key: one for key, one in self._back.items() if one is not flow}

    # from the node

    def claim(self, arrived: Arrived) -> Prediction | None:
        """Predict a packet that may be a node's answer."""
        flow = self._back.get(_back_key(arrived.packet))
        if flow is None:
            return None if self._may_be_hidden(arrived.packet) else NOT_MINE
        flow.note("node", arrived.packet.tcp_flags)
        if arrived.packet.fragment:
            return None
        service = self.service(flow)
        way = self.pipeline.way_to(flow.client)
        if way is None:
            return None
        out, target = way
        known = attrs.evolve(arrived, service=flow.service)
        if stopped := self.pipeline.stopped(known, out):
            return _from_anywhere(stopped)
        to = Translation(
            src=service.vip,
            sport=service.port,
            dst=flow.client,
            dport=flow.client_port,
            src_mac=mac(out.mac),
            dst_mac=mac(target),
        )
        ip = translate(arrived.data, arrived.packet, to)[ETHERNET:]
        data = self.pipeline.link(arrived, out, target, ip, push=service.vlan)
        return sent(self.pipeline.verdict(arrived, out), Reason.RETURNED, flow.service, None, data)

    # ICMP errors

    def error(self, arrived: Arrived, quote: Quoted) -> Prediction | None:
        """Predict an error about an answer to a client, or about a packet to a node."""
        if arrived.packet.fragment:
            return None
        if arrived.service:
            return self._error_to_node(arrived, quote)
        return self._error_to_client(arrived, quote)

    def _error_to_node(self, arrived: Arrived, quote: Quoted) -> Prediction | None:
        key = (quote.dst, quote.dport, arrived.service)
        flow = self._flows.get(key)
        if flow is None:
            hidden = key in self._hidden
            return None if hidden else dropped(Reason.ICMP_UNKNOWN, arrived.service)
        inner = attrs.evolve(
            quote,
            src=flow.node.address,
            sport=self.service(flow).target_port,
            dst=flow.source,
            dport=flow.port,
        )
        src = flow.source if self._full_nat else arrived.packet.src
        way = (self.pipeline.world.private, flow.node.mac)
        return self._translated_error(arrived, flow, way, (src, flow.node.address), inner)

    def _error_to_client(self, arrived: Arrived, quote: Quoted) -> Prediction | None:
        back = (quote.dst, quote.dport, quote.src, quote.sport, quote.protocol)
        flow = self._back.get(back)
        if flow is None:
            return None if (quote.dst, quote.dport) in self._hidden_ends else NOT_MINE
        way, service = self.pipeline.way_to(flow.client), self.service(flow)
        if way is None:
            return None
        inner = attrs.evolve(
            quote, src=flow.client, sport=flow.client_port, dst=service.vip, dport=service.port
        )
        return self._translated_error(arrived, flow, way, (service.vip, flow.client), inner)

    def _translated_error(
        self,
        arrived: Arrived,
        flow: KnownFlow,
        way: tuple[Interface, str],
        ends: tuple[IPAddress, IPAddress],
        inner: Quoted,
    ) -> Prediction:
        """Predict the error with these addresses and this quote."""
        out, target = way
        known = attrs.evolve(arrived, service=flow.service)
        if stopped := self.pipeline.stopped(known, out):
            return stopped
        to = Translation(src=ends[0], sport=0, dst=ends[1], dport=0, src_mac=b"", dst_mac=b"")
        ip = translate_error(arrived.data, arrived.packet, to, inner)
        push = 0 if ends[1] == flow.node.address else self.service(flow).vlan
        data = self.pipeline.link(arrived, out, target, ip, push=push)
        verdict = self.pipeline.verdict(arrived, out)
        node = flow.node if arrived.service else None
        return sent(verdict, Reason.ICMP_TRANSLATED, flow.service, node, data)

    def _may_be_hidden(self, packet: Dissected) -> bool:
        """Whether a node's packet might belong to a flow whose port nobody saw."""
        return (packet.src, packet.sport) in self._hidden_ends


def _from_anywhere(answer: Prediction) -> Prediction:
    """Return the answer without its bytes: which address of ours it comes from is left open."""
    return Prediction(fates=tuple(attrs.evolve(fate, data=None) for fate in answer.fates))


def _back_key(packet: Dissected) -> _BackKey:
    return packet.src, packet.sport, packet.dst, packet.dport, packet.protocol


def _turned(packet: Dissected) -> Dissected:
    """Return the addresses of an answer to a packet."""
    return attrs.evolve(
        packet, src=packet.dst, dst=packet.src, sport=packet.dport, dport=packet.sport
    )
