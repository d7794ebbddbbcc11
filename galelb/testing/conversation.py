# SPDX-License-Identifier: Apache-2.0
"""One client talking to one service: builds its packets and what NAT should make of them."""

from __future__ import annotations

from typing import Any

import attrs

from galelb.model import Service
from galelb.testing.dissect import dissect
from galelb.testing.packets import frame
from galelb.testing.world import GATEWAY_MAC, LOCAL_MAC, PRIVATE_MAC, PUBLIC_MAC, TestNode

__all__ = ["Conversation"]


@attrs.define
class Conversation:
    """Client, service and, once the first packet went to it, node and translated address.

    `to_vip` and `from_node` are packets as they arrive; `to_node` and `to_client` what they
    must look like when they leave. Keyword arguments are those of `frame`, and the same for
    both; TTLs and MACs are taken care of.
    """

    service: Service
    client: str
    client_port: int
    full_nat: bool = True
    local: bool = False
    """Whether the client is on the private network, so that all goes through one interface."""
    node: TestNode | None = None
    source: str = ""
    source_port: int = 0

    @property
    def protocol(self) -> str:
        """tcp or udp."""
        return self.service.protocol.name.lower()

    @property
    def reached(self) -> TestNode:
        """The node; only after a packet was forwarded."""
        assert self.node is not None, "no packet of this conversation was forwarded yet"
        return self.node

    def to_vip(self, **more: Any) -> bytes:
        """Return a packet from the client."""
        ours, theirs = self._client_macs()
        arguments = {"src_mac": theirs, "dst_mac": ours, **self._tags()} | more
        return frame(
            self.client,
            str(self.service.vip),
            self.client_port,
            self.service.port,
            protocol=self.protocol,
            **arguments,
        )

    def to_node(self, **more: Any) -> bytes:
        """Return what the node must get for the same arguments as `to_vip`."""
        return frame(
            self.source,
            str(self.reached.address),
            self.source_port,
            self.service.target_port,
            protocol=self.protocol,
            **_forwarded(more, PRIVATE_MAC, self.reached.mac),
        )

    def from_node(self, **more: Any) -> bytes:
        """Return a packet from the node."""
        arguments = {"src_mac": self.reached.mac, "dst_mac": PRIVATE_MAC} | more
        return frame(
            str(self.reached.address),
            self.source,
            self.service.target_port,
            self.source_port,
            protocol=self.protocol,
            **arguments,
        )

    def to_client(self, **more: Any) -> bytes:
        """Return what the client must get for the same arguments as `from_node`."""
        return frame(
            str(self.service.vip),
            self.client,
            self.service.port,
            self.client_port,
            protocol=self.protocol,
            **{**self._tags(), **_forwarded(more, *self._client_macs())},
        )

    def learn(self, data: bytes, nodes: tuple[TestNode, ...]) -> None:
        """Take node, source address and port from a forwarded packet."""
        packet = dissect(data)
        assert packet is not None, data.hex()
        mac = data[:6].hex(":")
        reached = [node for node in nodes if packet.dst == node.address]
        self.node = next(iter(reached or [node for node in nodes if node.mac == mac]))
        self.source, self.source_port = str(packet.src), packet.sport

    def _client_macs(self) -> tuple[str, str]:
        return (PRIVATE_MAC, LOCAL_MAC) if self.local else (PUBLIC_MAC, GATEWAY_MAC)

    def _tags(self) -> dict[str, Any]:
        return {"vlans": [self.service.vlan]} if self.service.vlan else {}


def _forwarded(arguments: dict[str, Any], src_mac: str, dst_mac: str) -> dict[str, Any]:
    """Return the arguments of a packet after us: one hop on, from our interface."""
    ttl = arguments.get("ttl", 64) - 1
    return {**arguments, "ttl": ttl, "src_mac": src_mac, "dst_mac": dst_mac}
