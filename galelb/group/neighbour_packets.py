# SPDX-License-Identifier: Apache-2.0
"""Frames that tell neighbours which MAC address an IP address has, unasked."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

from galelb.model import IPAddress

__all__ = ["announcements"]

_BROADCAST = b"\xff" * 6
_ALL_NODES = IPv6Address("ff02::1")
_ALL_NODES_MAC = b"\x33\x33\x00\x00\x00\x01"
_ARP, _IPV6 = 0x0806, 0x86DD
_REQUEST, _REPLY = 1, 2
_ETHERNET_AND_IPV4 = struct.pack("!HHBB", 1, 0x0800, 6, 4)
_ICMPV6 = 58
_NEIGHBOUR_ADVERTISEMENT = 136
_ROUTER, _OVERRIDE = 1 << 31, 1 << 29
_TARGET_LINK_LAYER_ADDRESS = struct.pack("!BB", 2, 1)  # type, length in units of 8 bytes
_HOP_LIMIT = 255
"""Receivers drop any other: it proves that no router was in between (RFC 4861, 7.1.2)."""


def announcements(mac: bytes, address: IPAddress, *, router: bool = False) -> list[bytes]:
    """Return untagged Ethernet frames for all neighbours: `address` is at `mac` (6 bytes).

    IPv4: an ARP request for the own address (RFC 5227, 2.3), and the same as a reply, since some
    devices heed only the one or the other. IPv6: an unsolicited neighbour advertisement that
    overrides what is cached (RFC 4861, 7.2.6). Both update entries and, by default, make none.

    `router` must be what the kernel answers by itself, whether it forwards IPv6: an
    advertisement without it takes a default router from its neighbours (RFC 4861, 7.2.5).
    """
    if isinstance(address, IPv6Address):
        return [_advertisement(mac, address, router=router)]
    return [_arp(mac, address, _REQUEST), _arp(mac, address, _REPLY)]


def _arp(mac: bytes, address: IPv4Address, operation: int) -> bytes:
    # Linux takes a reply for gratuitous only if it names the sender's MAC as the target, and
    # only then lets it override an entry of the last second.
    target = mac if operation == _REPLY else bytes(6)
    ip = address.packed
    head = _BROADCAST + mac + struct.pack("!H", _ARP) + _ETHERNET_AND_IPV4
    return head + struct.pack("!H", operation) + mac + ip + target + ip


def _advertisement(mac: bytes, address: IPv6Address, *, router: bool) -> bytes:
    flags = _OVERRIDE | (_ROUTER if router else 0)
    rest = struct.pack("!I", flags) + address.packed + _TARGET_LINK_LAYER_ADDRESS + mac
    length = 4 + len(rest)
    addresses = address.packed + _ALL_NODES.packed
    pseudo = addresses + struct.pack("!IxxxB", length, _ICMPV6)
    head = struct.pack("!BB", _NEIGHBOUR_ADVERTISEMENT, 0)
    checksum = _checksum(pseudo + head + b"\0\0" + rest)
    ip = struct.pack("!IHBB", 6 << 28, length, _ICMPV6, _HOP_LIMIT) + addresses
    ethernet = _ALL_NODES_MAC + mac + struct.pack("!H", _IPV6)
    return ethernet + ip + head + struct.pack("!H", checksum) + rest


def _checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
