# SPDX-License-Identifier: Apache-2.0
"""Rewrites packets in plain Python: new addresses and ports, one hop less, checksums kept."""

from __future__ import annotations

import attrs

from galelb.model import IPAddress
from galelb.testing.checksums import ones_sum
from galelb.testing.dissect import Dissected, dissect

__all__ = ["Quoted", "Translation", "canonical", "translate", "translate_error"]

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


@attrs.frozen(kw_only=True)
class Quoted:
    """A packet that an ICMP error quotes, as it shall be; offsets are those in the frame."""

    src: IPAddress
    sport: int
    dst: IPAddress
    dport: int
    protocol: int
    l3: int
    l4: int


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


def translate_error(data: bytes, packet: Dissected, to: Translation, quote: Quoted) -> bytes:
    """Return an ICMP error, from its IP header on, as it must leave: `to` names its addresses.

    What it quotes gets the addresses and ports of `quote`, which says where that lies, too.
    """
    ip, start = bytearray(data[packet.l3 :]), packet.l3
    icmp, end = packet.l4 - start, packet.end - start
    before = bytes(ip)
    _rewrite_quote(ip, end, quote, start)
    even = end - (end - icmp) % 2
    at = slice(12, 20) if packet.version == 4 else slice(8, 40)
    old, new = before[at], to.src.packed + to.dst.packed
    pseudo = (old, new) if packet.version == 6 else (b"", b"")
    changed = pseudo[0] + before[icmp + 4 : even], pseudo[1] + bytes(ip[icmp + 4 : even])
    ip[icmp + 2 : icmp + 4] = _applied(bytes(ip[icmp + 2 : icmp + 4]), *changed)
    ip[at] = new
    hops = 7 if packet.version == 6 else 8
    ip[hops] -= 1
    if packet.version == 4:
        ip[10:12] = _updated(before[10:12], old + before[8:10], new + bytes(ip[8:10]))
    return bytes(ip)


def _rewrite_quote(ip: bytearray, end: int, quote: Quoted, start: int) -> None:
    """Write the quoted headers, as far as they are there, and their checksums."""
    l3, l4 = quote.l3 - start, quote.l4 - start
    v4 = quote.src.version == 4
    at = slice(l3 + 12, l3 + 20) if v4 else slice(l3 + 8, l3 + 40)
    old, new = bytes(ip[at]), quote.src.packed + quote.dst.packed
    ports = quote.sport.to_bytes(2, "big") + quote.dport.to_bytes(2, "big")
    was = bytes(ip[l4 : l4 + 4])
    ip[at], ip[l4 : l4 + 4] = new, ports
    if v4:
        ip[l3 + 10 : l3 + 12] = _applied(bytes(ip[l3 + 10 : l3 + 12]), old, new)
    check = slice(l4 + CHECKSUM_AT[quote.protocol], l4 + CHECKSUM_AT[quote.protocol] + 2)
    if check.stop > end or (quote.protocol == UDP and not any(ip[check])):
        return
    update = _updated if quote.protocol == UDP else _applied
    ip[check] = update(bytes(ip[check]), old + was, new + ports)


def _applied(checksum: bytes, old: bytes, new: bytes) -> bytes:
    """Return a checksum after `old` bytes, of an even number, became `new` ones (RFC 1624)."""
    inverted = bytes(0xFF ^ byte for byte in checksum + old)
    return (0xFFFF ^ ones_sum(inverted + new)).to_bytes(2, "big")


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
