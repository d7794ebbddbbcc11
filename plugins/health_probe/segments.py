# SPDX-License-Identifier: Apache-2.0
"""TCP segments in IP packets, built and taken apart; no input and output."""

from __future__ import annotations

import enum
import struct
import sys
from array import array

import attrs

from galelb.model import IPAddress

__all__ = ["Endpoints", "Flag", "Segment", "packet_of", "parse_packet"]

_TCP = 6
_HEADER = struct.Struct("!HHIIBBHHH")
_IPV4 = struct.Struct("!BBHHHBBH")
_IPV6 = struct.Struct("!IHBB")
_DONT_FRAGMENT = 0x4000
_HOPS = 1
"""A node that does not have the VIP may forward to it: back to us, or to another node, which would
answer in its place. With one hop left a packet gets no farther than the node it was sent to."""
_MSS_OPTION = struct.pack("!BBH", 2, 4, 1200)
"""What nodes may send at once: little, to fit whatever is on the way."""


class Flag(enum.IntFlag):
    """Flags of a segment."""

    FIN = 1
    SYN = 2
    RST = 4
    PSH = 8
    ACK = 16


@attrs.frozen
class Segment:
    """A segment without its ports; numbers are those on the wire."""

    flags: int
    seq: int
    ack: int = 0
    payload: bytes = b""


@attrs.frozen
class Endpoints:
    """Our end and the node's."""

    source: IPAddress
    source_port: int
    target: IPAddress
    target_port: int


def packet_of(ends: Endpoints, segment: Segment) -> bytes:
    """Return the IP packet that carries a segment to the node."""
    tcp = _tcp(ends, segment)
    source, target = ends.source.packed, ends.target.packed
    if ends.target.version == 6:
        return _IPV6.pack(6 << 28, len(tcp), _TCP, _HOPS) + source + target + tcp
    head = _IPV4.pack(0x45, 0, 20 + len(tcp), 0, _DONT_FRAGMENT, _HOPS, _TCP, 0) + source + target
    return head[:10] + _checksum(head).to_bytes(2, "big") + head[12:] + tcp


def parse_packet(packet: bytes) -> tuple[int, Segment] | None:
    """Return our port and the segment in an IP packet from a node; None = it is unreadable."""
    try:
        start, end = _bounds(packet)
        _, port, seq, ack, offset, flags, *_ = _HEADER.unpack_from(packet, start)
    except (struct.error, IndexError):
        return None
    data = start + (offset >> 4) * 4
    if data < start + _HEADER.size or data > end or end > len(packet):
        return None
    return port, Segment(flags, seq, ack, packet[data:end])


def _bounds(packet: bytes) -> tuple[int, int]:
    """Return where the TCP header starts and where the packet ends."""
    if packet[0] >> 4 == 6:
        return 40, 40 + int.from_bytes(packet[4:6], "big")
    return (packet[0] & 15) * 4, int.from_bytes(packet[2:4], "big")


def _tcp(ends: Endpoints, segment: Segment) -> bytes:
    options = _MSS_OPTION if segment.flags & Flag.SYN else b""
    offset = (_HEADER.size + len(options)) // 4 << 4
    head = _HEADER.pack(
        ends.source_port,
        ends.target_port,
        segment.seq,
        segment.ack,
        offset,
        segment.flags,
        0xFFFF,
        0,
        0,
    )
    tcp = head + options + segment.payload
    pseudo = ends.source.packed + ends.target.packed + struct.pack("!II", len(tcp), _TCP)
    return tcp[:16] + _checksum(pseudo + tcp).to_bytes(2, "big") + tcp[18:]


def _checksum(data: bytes) -> int:
    """Return the Internet checksum."""
    words = array("H", data + b"\0" * (len(data) % 2))
    total = sum(words)
    total = (total & 0xFFFF) + (total >> 16)
    total = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    return total if sys.byteorder == "big" else (total & 0xFF) << 8 | total >> 8
