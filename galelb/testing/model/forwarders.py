# SPDX-License-Identifier: Apache-2.0
"""What a forwarder does with a packet: the base of such models, and the stateless bundled ones."""

from __future__ import annotations

import abc
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, ClassVar

import attrs

from galelb.flowhash import flow_hash
from galelb.model import IPAddress
from galelb.testing.checksums import ones_sum
from galelb.testing.model.values import Arrived, Prediction
from galelb.testing.rewriting import Quoted
from galelb.testing.world import TestNode

if TYPE_CHECKING:
    from galelb.testing.model.pipeline import ReferenceModel

__all__ = ["BridgeModel", "ForwarderModel", "Packet", "RouteModel", "one_hop_less"]

UDP_BYTES = 8
GUE_PORTS = 0x3FFF
"""Source ports of GUE: the upper quarter."""


@attrs.frozen(kw_only=True)
class Packet:
    """A packet of a service on its way to a node; `flow` is (client, port)."""

    arrived: Arrived
    node: TestNode
    flow: tuple[IPAddress, int]
    service: int


class ForwarderModel(abc.ABC):
    """What is a forwarder's own. A stateless one fills in `rewritten`, and `overhead` if it wraps.

    One that keeps flows sets `claims` and fills in `forward`, `claim`, `error` and `learn`.
    """

    one_hop: ClassVar[bool] = False
    """Whether packets lose a hop on the way through the balancer."""
    claims: ClassVar[bool] = False

    def join(self, pipeline: ReferenceModel) -> None:
        """Take the model of the pipeline, before the first packet."""
        self.pipeline = pipeline

    @abc.abstractmethod
    def rewritten(self, packet: Packet) -> bytes:
        """Return the IP packet as the node must get it, with what lay behind it in the frame."""

    def node_key(self, client: IPAddress, port: int) -> tuple[IPAddress, int]:
        """Return what chooses a client's node; another pair than this where C has NAME_select."""
        return client, port

    def overhead(self, packet: Packet) -> int:
        """Return how many bytes `rewritten` puts before the packet."""
        del packet
        return 0

    def unwrapped(self, ip: bytes) -> bytes:
        """Return the packet inside of what `rewritten` made, to check it as the node will."""
        return ip

    def forward(self, arrived: Arrived) -> Prediction | None:
        """Predict a packet to a service; None = left out."""
        raise AssertionError(f"a model that claims packets predicts them too: {arrived}")

    def claim(self, arrived: Arrived) -> Prediction | None:
        """Predict a packet to no service, NOT_MINE if it belongs to no flow; None = left out."""
        raise AssertionError(f"a model that claims packets predicts them too: {arrived}")

    def error(self, arrived: Arrived, quote: Quoted) -> Prediction | None:
        """Predict an ICMP error about a service (`arrived.service`) or, 0, about anything."""
        raise AssertionError(f"a model that claims packets predicts errors: {arrived} {quote}")

    def learn(self, prediction: Prediction, output: bytes) -> list[str]:
        """Take a new flow's node and port from its first packet; returns what is wrong."""
        del prediction, output
        return ["no new flow was expected"]


class BridgeModel(ForwarderModel):
    """l2_bridge: nothing but the link layer changes."""

    def rewritten(self, packet: Packet) -> bytes:
        """Return the packet as it came."""
        return packet.arrived.ip


class RouteModel(ForwarderModel):
    """l3_route: one hop less, in another packet or not.

    `prefixes` are the networks that outer packets come from, else it is the private address.
    """

    one_hop = True

    def __init__(
        self, encap: str = "ipip", *, port: int = 6080, prefixes: tuple[str, ...] = ()
    ) -> None:
        self._encap = encap
        self._port = port
        self._prefixes: dict[int, IPv4Network | IPv6Network] = {
            network.version: network for network in map(ip_network, prefixes)
        }

    def overhead(self, packet: Packet) -> int:
        """Return the length of the outer headers; the node's family decides."""
        if self._encap == "none":
            return 0
        udp = UDP_BYTES if self._encap == "gue" else 0
        return {4: 20, 6: 40}[packet.node.address.version] + udp

    def rewritten(self, packet: Packet) -> bytes:
        """Return the packet with one hop less, behind the headers of its tunnel."""
        inner = one_hop_less(packet.arrived.ip)
        if self._encap == "none":
            return inner
        seed = flow_hash(*packet.flow, self.pipeline.seed)
        size = packet.arrived.size
        inside, udp = (4 if inner[0] >> 4 == 4 else 41), b""
        if self._encap == "gue":
            inside, udp = 17, self._udp(size, seed)
        return self._outer(packet.node, inner, len(udp) + size, inside, seed) + udp + inner

    def unwrapped(self, ip: bytes) -> bytes:
        """Return the packet without its tunnel."""
        if self._encap == "none":
            return ip
        return ip[{4: 20, 6: 40}[ip[0] >> 4] + (UDP_BYTES if self._encap == "gue" else 0) :]

    def _udp(self, size: int, seed: int) -> bytes:
        ports = (0xFFFF ^ GUE_PORTS) | seed & GUE_PORTS, self._port
        words = (*ports, UDP_BYTES + size, 0)
        return b"".join(word.to_bytes(2, "big") for word in words)

    def _outer(self, node: TestNode, inner: bytes, size: int, inside: int, seed: int) -> bytes:
        version = node.address.version
        tos = inner[1] if inner[0] >> 4 == 4 else int.from_bytes(inner[:2], "big") >> 4 & 0xFF
        source = self._source(version, seed)
        if version == 6:
            flow = 6 << 28 | tos << 20 | seed & 0xFFFFF
            head = flow.to_bytes(4, "big") + size.to_bytes(2, "big") + bytes([inside, 64])
            return head + source.packed + node.address.packed
        head = bytes([0x45, tos]) + (20 + size).to_bytes(2, "big") + b"\0\0\x40\0"
        head += bytes([64, inside])
        addresses = source.packed + node.address.packed
        checksum = 0xFFFF ^ ones_sum(head + addresses)
        return head + checksum.to_bytes(2, "big") + addresses

    def _source(self, version: int, seed: int) -> IPAddress:
        prefix = self._prefixes.get(version)
        if prefix is None:
            own = self.pipeline.world.private.addresses
            return next(one for one in own if one.version == version)
        bits = min(prefix.max_prefixlen - prefix.prefixlen, 32)
        return ip_address(int(prefix.network_address) | seed & (1 << bits) - 1)


def one_hop_less(ip: bytes) -> bytes:
    """Return the packet as the next router sends it; a wrong checksum stays wrong by as much."""
    changed = bytearray(ip)
    if ip[0] >> 4 == 6:
        changed[7] -= 1
        return bytes(changed)
    changed[8] -= 1
    inverted = bytes(0xFF ^ byte for byte in ip[8:12])
    total = 0xFFFF ^ ones_sum(inverted[2:] + inverted[:2] + bytes(changed[8:10]))
    changed[10:12] = total.to_bytes(2, "big")
    return bytes(changed)
