# SPDX-License-Identifier: Apache-2.0
"""The data path of l4_nat in plain Python, readable and slow: what must become of a packet.

It predicts verdict, reason and bytes from the rules of the documentation, not from the C. It
leaves out what has tables of its own: ICMP errors, fragments, expiry and full tables.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from galelb.abi import Reason
from galelb.flowhash import flow_slot
from galelb.model import IPAddress, Service
from galelb.testing.dissect import Dissected, dissect
from galelb.testing.rewriting import Translation, translate
from galelb.testing.runner import Verdict
from galelb.testing.world import TestNode, World

__all__ = ["KnownFlow", "Prediction", "ReferenceModel"]

ICMP, TCP, UDP, ICMP6 = 1, 6, 17, 58
ICMP_ERRORS = {ICMP: {3, 11, 12}, ICMP6: {1, 2, 3, 4}}
FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10
VID = 0xFFF

_FlowKey = tuple[IPAddress, int, int]
_BackKey = tuple[IPAddress, int, IPAddress, int, int]


@attrs.frozen(kw_only=True)
class Prediction:
    """What must happen; several reasons where a rate limit decides. `data` None = any bytes."""

    reasons: frozenset[Reason]
    verdicts: frozenset[Verdict]
    data: bytes | None = None
    opens: _FlowKey | None = None
    """A new flow, whose source port only the program knows."""


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


class ReferenceModel:
    """Predicts packets of a world; `tables` are the lookup tables by service id."""

    def __init__(
        self,
        world: World,
        services: Mapping[int, Service],
        tables: Mapping[int, list[TestNode]],
        *,
        full_nat: bool,
        seed: int,
    ) -> None:
        self._world = world
        self._services = services
        self._tables = tables
        self._full_nat = full_nat
        self._seed = seed
        self._flows: dict[_FlowKey, KnownFlow] = {}
        self._back: dict[_BackKey, KnownFlow] = {}
        self._hidden: set[_FlowKey] = set()
        """Flows whose first packet was not forwarded, so that nobody saw their port."""
        self._nodes = {node.address: node for node in world.nodes}

    def flows(self) -> list[KnownFlow]:
        """Return the flows that the model has seen opening."""
        return list(self._flows.values())

    def service(self, flow: KnownFlow) -> Service:
        """Return the service of a flow."""
        return self._services[flow.service]

    def predict(self, data: bytes) -> Prediction | None:
        """Return what must become of a frame, or None for what the model leaves out."""
        packet = dissect(data)
        if packet is None:
            return _passed(data, Reason.PASS_UNPARSABLE)
        if packet.fragment or self._is_icmp_error(data, packet):
            self._overhear(packet)
            return None
        if packet.protocol not in (TCP, UDP):
            return _passed(data, Reason.PASS_FOREIGN)
        number = self._match(packet)
        if number:
            return self._forward(data, packet, number)
        if len(packet.vlans) > 1:
            return _passed(data, Reason.PASS_FOREIGN)
        flow = self._back.get(_back_key(packet))
        if flow is None and self._may_be_hidden(packet):
            return None
        if flow is None:
            return _passed(data, Reason.PASS_FOREIGN)
        return self._return(data, packet, flow)

    def learn(self, prediction: Prediction, output: bytes) -> list[str]:
        """Take the new flow's node and port from its first packet; returns what is wrong."""
        packet = dissect(output)
        if prediction.opens is None or packet is None:
            return ["no new flow was expected"]
        client, port, number = prediction.opens
        service = self._services[number]
        node = self._nodes.get(packet.dst)
        if node is None or node != self._choose(client, port, number):
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

    def _may_be_hidden(self, packet: Dissected) -> bool:
        """Whether a node's packet might belong to a flow whose port nobody saw."""
        return any(
            self._choose(client, port, number) == self._nodes.get(packet.src)
            and self._services[number].target_port == packet.sport
            for client, port, number in self._hidden
        )

    def _overhear(self, packet: Dissected) -> None:
        """Take from a first fragment what it does to its flow."""
        if packet.later_fragment or packet.protocol not in (TCP, UDP):
            return
        number = self._match(packet)
        back = self._back.get(_back_key(packet))
        if number:
            self._forward(b"", attrs.evolve(packet, ttl=1), number)
        elif back is not None and len(packet.vlans) < 2:
            back.note("node", packet.tcp_flags)

    def _is_icmp_error(self, data: bytes, packet: Dissected) -> bool:
        if packet.protocol != {4: ICMP, 6: ICMP6}[packet.version]:
            return False
        return data[packet.l4] in ICMP_ERRORS[packet.protocol]

    def _match(self, packet: Dissected) -> int:
        """Return the id of the packet's service, or 0."""
        if len(packet.vlans) > 1:
            return 0
        tag = packet.vlans[0] & VID if packet.vlans else 0
        wanted = (packet.dst, packet.dport, packet.protocol, tag)
        for number, service in self._services.items():
            if wanted == (service.vip, service.port, service.protocol, service.vlan):
                return number
        return 0

    def _choose(self, client: IPAddress, port: int, number: int) -> TestNode | None:
        table = self._tables.get(number)
        return table[flow_slot(client, port, self._seed, len(table))] if table else None

    # from the client

    def _forward(self, data: bytes, packet: Dissected, number: int) -> Prediction:
        key = (packet.src, packet.sport, number)
        flow = self._flows.get(key)
        begins = packet.protocol == TCP and packet.tcp_flags & (SYN | ACK) == SYN
        if flow is not None and flow.finished and begins:
            self._forget(flow)
            flow = None
        if flow is None:
            return self._open(data, packet, key)
        flow.note("client", packet.tcp_flags)
        if packet.ttl <= 1:
            return _answered()
        node = flow.node
        return _sent(
            Reason.FORWARDED,
            translate(
                data,
                packet,
                Translation(
                    src=flow.source,
                    sport=flow.port,
                    dst=node.address,
                    dport=self._services[number].target_port,
                    src_mac=_mac(self._world.private.mac),
                    dst_mac=_mac(node.mac),
                ),
            ),
        )

    def _open(self, data: bytes, packet: Dissected, key: _FlowKey) -> Prediction:
        if packet.protocol == TCP and packet.tcp_flags & RST and key not in self._hidden:
            return _dropped(Reason.NO_FLOW)
        if self._choose(packet.src, packet.sport, key[2]) is None:
            return _dropped(Reason.NO_NODE)
        if not self._full_nat and packet.src in self._nodes:
            return _dropped(Reason.HAIRPIN)
        if packet.ttl <= 1:
            self._hidden.add(key)
            return _answered()
        forwarded = frozenset({Reason.FORWARDED})
        return Prediction(reasons=forwarded, verdicts=_SENT, opens=key)

    def _forget(self, flow: KnownFlow) -> None:
        self._flows = {key: one for key, one in self._flows.items() if one is not flow}
        self._back = {key: one for key, one in self._back.items() if one is not flow}

    # from the node

    def _return(self, data: bytes, packet: Dissected, flow: KnownFlow) -> Prediction:
        flow.note("node", packet.tcp_flags)
        if packet.ttl <= 1:
            return _answered()
        service = self._services[flow.service]
        public, gateway = self._world.hosts[0]
        return _sent(
            Reason.RETURNED,
            translate(
                data,
                packet,
                Translation(
                    src=service.vip,
                    sport=service.port,
                    dst=flow.client,
                    dport=flow.client_port,
                    src_mac=_mac(public.mac),
                    dst_mac=_mac(gateway),
                    tags=(service.vlan,) if service.vlan else (),
                ),
            ),
        )


_SENT = frozenset({Verdict.TX, Verdict.REDIRECT})


def _passed(data: bytes, reason: Reason) -> Prediction:
    return Prediction(reasons=frozenset({reason}), verdicts=frozenset({Verdict.PASS}), data=data)


def _dropped(reason: Reason) -> Prediction:
    return Prediction(reasons=frozenset({reason}), verdicts=frozenset({Verdict.DROP}))


def _sent(reason: Reason, data: bytes) -> Prediction:
    return Prediction(reasons=frozenset({reason}), verdicts=_SENT, data=data)


def _answered() -> Prediction:
    """A message of ours, or a drop when there were too many."""
    reasons = frozenset({Reason.ICMP_SENT, Reason.TTL_EXCEEDED})
    return Prediction(reasons=reasons, verdicts=_SENT | {Verdict.DROP})


def _back_key(packet: Dissected) -> _BackKey:
    return packet.src, packet.sport, packet.dst, packet.dport, packet.protocol


def _turned(packet: Dissected) -> Dissected:
    """Return the addresses of an answer to a packet."""
    return attrs.evolve(
        packet, src=packet.dst, dst=packet.src, sport=packet.dport, dport=packet.sport
    )


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))
