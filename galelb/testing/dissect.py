# SPDX-License-Identifier: Apache-2.0
"""Takes a frame apart, plainly and slowly: what the reference model and test messages see."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import attrs

from galelb.model import IPAddress

__all__ = ["Dissected", "describe", "dissect", "dissect_ip"]

ICMP, TCP, UDP, ICMP6 = 1, 6, 17, 58
VLAN_TYPES = (0x8100, 0x88A8)
MAX_TAGS = 2
MAX_EXTENSIONS = 6
MAX_OFFSET = 0x3FF
"""No header that is read starts later in a frame."""
HOP, ROUTING, FRAGMENT, AUTH, DEST = 0, 43, 44, 51, 60
MINIMUM = {(4, TCP): 20, (4, UDP): 8, (4, ICMP): 8, (6, TCP): 20, (6, UDP): 8, (6, ICMP6): 8}


@attrs.frozen(kw_only=True)
class Dissected:
    """An IP packet in a frame; offsets count from the start of the bytes given.

    Read by the rules of the data path: what it cannot read is no packet here either.
    `sport` and `dport` are 0 unless the packet starts with a whole TCP or UDP header.
    """

    vlans: tuple[int, ...]
    l3: int
    l4: int
    end: int
    src: IPAddress
    dst: IPAddress
    protocol: int
    ttl: int
    fragment: bool = False
    fragment_offset: int = 0
    more: bool = False
    ident: int = 0
    fragment_header: int = 0
    sport: int = 0
    dport: int = 0
    tcp_flags: int = 0

    @property
    def version(self) -> int:
        """4 or 6."""
        return self.src.version

    @property
    def later_fragment(self) -> bool:
        """Whether it is a fragment without the transport header."""
        return self.fragment_offset > 0


def dissect(data: bytes) -> Dissected | None:
    """Return a frame's IP packet, or None when it is not one that we can read."""
    vlans: list[int] = []
    offset = 14
    if len(data) < offset:
        return None
    ethertype = int.from_bytes(data[12:14], "big")
    while ethertype in VLAN_TYPES:
        if len(vlans) == MAX_TAGS or len(data) < offset + 4:
            return None
        vlans.append(int.from_bytes(data[offset : offset + 2], "big"))
        ethertype = int.from_bytes(data[offset + 2 : offset + 4], "big")
        offset += 4
    version = {0x0800: 4, 0x86DD: 6}.get(ethertype)
    packet = dissect_ip(data, offset) if version else None
    if packet is None or packet.version != version:
        return None
    return attrs.evolve(packet, vlans=tuple(vlans))


def dissect_ip(data: bytes, l3: int, *, quoted: bool = False) -> Dissected | None:
    """Return the IP packet at an offset; a `quoted` one (in an ICMP error) may be cut off."""
    version = data[l3] >> 4 if len(data) > l3 else 0
    packet = None
    if version == 4:
        packet = _ipv4(data, l3, quoted)
    elif version == 6:
        packet = _ipv6(data, l3, quoted)
    return _ports(data, packet, quoted) if packet is not None else None


def _ipv4(data: bytes, l3: int, quoted: bool) -> Dissected | None:
    if len(data) < l3 + 20:
        return None
    header, total = (data[l3] & 15) * 4, int.from_bytes(data[l3 + 2 : l3 + 4], "big")
    if header < 20 or total < header or len(data) < l3 + header:
        return None
    if not quoted and len(data) < l3 + total:
        return None
    bits = int.from_bytes(data[l3 + 6 : l3 + 8], "big")
    return Dissected(
        vlans=(),
        l3=l3,
        l4=l3 + header,
        end=min(l3 + total, len(data)),
        src=IPv4Address(data[l3 + 12 : l3 + 16]),
        dst=IPv4Address(data[l3 + 16 : l3 + 20]),
        protocol=data[l3 + 9],
        ttl=data[l3 + 8],
        fragment=bool(bits & 0x3FFF),
        fragment_offset=(bits & 0x1FFF) * 8,
        more=bool(bits & 0x2000),
        ident=int.from_bytes(data[l3 + 4 : l3 + 6], "big"),
    )


def _ipv6(data: bytes, l3: int, quoted: bool) -> Dissected | None:
    end = l3 + 40 + int.from_bytes(data[l3 + 4 : l3 + 6], "big")
    if len(data) < l3 + 40 or (not quoted and len(data) < end):
        return None
    packet = Dissected(
        vlans=(),
        l3=l3,
        l4=l3 + 40,
        end=min(end, len(data)),
        src=IPv6Address(data[l3 + 8 : l3 + 24]),
        dst=IPv6Address(data[l3 + 24 : l3 + 40]),
        protocol=data[l3 + 6],
        ttl=data[l3 + 7],
    )
    return _walk(data, packet)


def _walk(data: bytes, packet: Dissected) -> Dissected | None:
    for _ in range(MAX_EXTENSIONS + 1):
        at, kind = packet.l4, packet.protocol
        if kind not in (HOP, ROUTING, FRAGMENT, AUTH, DEST):
            return packet if packet.l4 <= packet.end else None
        if at + 8 > packet.end or (kind == ROUTING and data[at + 3]):
            return None
        length = {FRAGMENT: 8, AUTH: (data[at + 1] + 2) * 4}.get(kind, (data[at + 1] + 1) * 8)
        packet = attrs.evolve(packet, protocol=data[at], l4=at + length)
        if packet.l4 > MAX_OFFSET:
            return None
        if kind == FRAGMENT:
            packet = _fragment6(data, at, packet)
            if packet.later_fragment:
                return packet
    return None


def _fragment6(data: bytes, at: int, packet: Dissected) -> Dissected:
    bits = int.from_bytes(data[at + 2 : at + 4], "big")
    return attrs.evolve(
        packet,
        fragment=bool(bits & 0xFFF9),
        fragment_offset=bits & 0xFFF8,
        more=bool(bits & 1),
        ident=int.from_bytes(data[at + 4 : at + 8], "big"),
        fragment_header=at,
    )


def _ports(data: bytes, packet: Dissected, quoted: bool) -> Dissected | None:
    minimum = MINIMUM.get((packet.version, packet.protocol))
    if packet.later_fragment or minimum is None:
        return packet
    at, room = packet.l4, packet.end - packet.l4
    if room < (8 if quoted else minimum):
        return None
    if packet.protocol not in (TCP, UDP):
        return packet
    if packet.protocol == TCP and not quoted and not _sound_tcp(data, packet, room):
        return None
    return attrs.evolve(
        packet,
        sport=int.from_bytes(data[at : at + 2], "big"),
        dport=int.from_bytes(data[at + 2 : at + 4], "big"),
        tcp_flags=data[at + 13] if packet.protocol == TCP and room >= 14 else 0,
    )


def _sound_tcp(data: bytes, packet: Dissected, room: int) -> bool:
    """Whether the TCP header has the length that it claims; in a first fragment it may not."""
    header = (data[packet.l4 + 12] >> 4) * 4
    return header >= 20 and (header <= room or packet.fragment)


def describe(data: bytes) -> str:
    """Return one line about a frame, for messages of failed tests."""
    packet = dissect(data)
    if packet is None:
        return f"{len(data)} bytes, {data[:40].hex()}"
    tags = "".join(f" vlan {tci & 0xFFF}" for tci in packet.vlans)
    return (
        f"{packet.src}:{packet.sport} > {packet.dst}:{packet.dport} protocol {packet.protocol}"
        f" ttl {packet.ttl} flags {packet.tcp_flags:#x}{tags}, {len(data)} bytes"
    )
