# SPDX-License-Identifier: Apache-2.0
"""Puts a packet into the tunnel to a node, as the C does it: for checks of the node's health."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from galelb.model import IPAddress

__all__ = ["tunnelled"]

_HOPS = 64
_DONT_FRAGMENT = 0x4000
_INSIDE = {4: 4, 6: 41}
_UDP = 17
_UDP_HEADER = 8
_SOURCE_PORT = 0xC000


def tunnelled(packet: bytes, source: IPAddress, node: IPAddress, gue_port: int | None) -> bytes:
    """Return an outer packet with this IP packet inside; `gue_port` None = ipip.

    The two addresses are of one family.
    """
    protocol = _INSIDE[packet[0] >> 4]
    if gue_port is not None:
        udp = struct.pack("!HHHH", _SOURCE_PORT, gue_port, _UDP_HEADER + len(packet), 0)
        packet, protocol = udp + packet, _UDP
    if node.version == 6:
        head = struct.pack("!IHBB", 6 << 28, len(packet), protocol, _HOPS)
        return head + source.packed + node.packed + packet
    return _ipv4(20 + len(packet), protocol, source, node) + packet


def _ipv4(length: int, protocol: int, source: IPAddress, node: IPAddress) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, length, 0, _DONT_FRAGMENT, _HOPS, protocol, 0)
    addresses = source.packed + node.packed
    total = sum(struct.unpack("!10H", head + addresses))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    return head[:10] + struct.pack("!H", checksum) + addresses
