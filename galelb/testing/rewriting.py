# SPDX-License-Identifier: Apache-2.0
"""Rewrites packets in plain Python: new addresses and ports, one hop less, checksums kept."""

from __future__ import annotations

import attrs

from galelb.model import IPAddress
from galelb.testing.checksums import ones_sum
from galelb.testing.dissect import Dissected, dissect

__all__ = ["Translation", "canonical", "translate"]

TCP, UDP = 6, 17
CHECKSUM_AT = {TCP: 16, UDP: 6}


@attrs.frozen(kw_only=True)
class Translation:
    """What a packet gets; MACs are bytes."""

    src: IPAddress
    sport: int
    dst: IPAddress
    dport: int
    src_mac: bytes
    dst_mac: bytes
    tags: tuple[int, ...] = ()


def translate(data: bytes, packet: Dissected, to: Translation) -> bytes:
    """Return the frame as it must leave.

    Checksums are updated, not computed (RFC 1624): what was wrong stays wrong by as much.
    """
    ip = bytearray(data[packet.l3 :])
    l4 = packet.l4 - packet.l3
    addresses = slice(12, 20) if packet.version == 4 else slice(8, 40)
    old, new = bytes(ip[addresses]), to.src.packed + to.dst.packed
    ports = to.sport.to_bytes(2, "big") + to.dport.to_bytes(2, "big")
    _update_transport(ip, l4, packet.protocol, old + bytes(ip[l4 : l4 + 4]), new + ports)
    ip[addresses], ip[l4 : l4 + 4] = new, ports
    if packet.version == 6:
        ip[7] -= 1
    else:
        before = bytes(ip[8:10])
        ip[8] -= 1
        ip[10:12] = _updated(bytes(ip[10:12]), old + before, new + bytes(ip[8:10]))
    return _link(packet, to) + bytes(ip)


def _update_transport(ip: bytearray, l4: int, protocol: int, old: bytes, new: bytes) -> None:
    at = l4 + CHECKSUM_AT[protocol]
    if protocol == UDP and not any(ip[at : at + 2]):
        return  # the sender computed none
    ip[at : at + 2] = _updated(bytes(ip[at : at + 2]), old, new)


def _updated(checksum: bytes, old: bytes, new: bytes) -> bytes:
    """Return a checksum after `old` bytes became `new` ones; never 0, which may mean "none"."""
    inverted = bytes(0xFF ^ byte for byte in checksum + old)
    total = 0xFFFF ^ ones_sum(inverted + new)
    return (total or 0xFFFF).to_bytes(2, "big")


def _link(packet: Dissected, to: Translation) -> bytes:
    ethertype = {4: b"\x08\x00", 6: b"\x86\xdd"}[packet.version]
    tags = b"".join(b"\x81\x00" + tci.to_bytes(2, "big") for tci in to.tags)
    return to.dst_mac + to.src_mac + tags + ethertype


def canonical(data: bytes) -> bytes:
    """Return a frame with checksums of 0 as 0xffff, which mean the same in TCP and IPv4."""
    packet = dissect(data)
    if packet is None:
        return data
    places = [packet.l3 + 10] if packet.version == 4 else []
    if packet.protocol == TCP and not packet.later_fragment:
        places.append(packet.l4 + CHECKSUM_AT[TCP])
    changed = bytearray(data)
    for at in places:
        if changed[at : at + 2] == b"\0\0":
            changed[at : at + 2] = b"\xff\xff"
    return bytes(changed)
