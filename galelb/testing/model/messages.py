# SPDX-License-Identifier: Apache-2.0
"""The ICMP messages that a balancer makes of its own, in plain Python."""

from __future__ import annotations

from galelb.testing.checksums import ones_sum
from galelb.testing.dissect import Dissected

__all__ = ["TIME_EXCEEDED", "TOO_BIG", "message"]

TIME_EXCEEDED, TOO_BIG = "time exceeded", "too big"
KINDS = {(4, TIME_EXCEEDED): (11, 0), (4, TOO_BIG): (3, 4), (6, TIME_EXCEEDED): (3, 0)}
KINDS[6, TOO_BIG] = (2, 0)
HOPS = 64
QUOTE = 128
"""At most so many bytes of a packet are quoted."""
TCP_HEADER = 20


def message(data: bytes, packet: Dissected, kind: str, *, mtu: int = 0, tc: bool = False) -> bytes:
    """Return the frame that answers one: back where it came from, from the packet's target.

    Under TC no more than 8 bytes of the transport header are quoted, and what is left of it
    stays behind the message: its checksum may yet be computed there.
    """
    length = packet.end - packet.l3
    through_ports = packet.l4 - packet.l3 + 8
    quoted = min(QUOTE, through_ports if tc else length) & ~1
    kept = min(length, packet.l4 - packet.l3 + TCP_HEADER) if tc else quoted
    ip = data[packet.l3 : packet.l3 + kept]
    code = bytes(KINDS[packet.version, kind]) + bytes(2)
    body = code + (mtu if kind == TOO_BIG else 0).to_bytes(4, "big") + ip[:quoted]
    header, pseudo = _header(packet, len(body))
    checksum = 0xFFFF ^ ones_sum(pseudo + body)
    body = body[:2] + checksum.to_bytes(2, "big") + body[4:]
    link = data[6:12] + data[:6] + data[12 : packet.l3]
    return link + header + body + ip[quoted:]


def _header(packet: Dissected, size: int) -> tuple[bytes, bytes]:
    """Return the IP header, and what the ICMP checksum covers beside the message."""
    addresses = packet.dst.packed + packet.src.packed
    if packet.version == 6:
        head = b"\x60\0\0\0" + size.to_bytes(2, "big") + bytes([58, HOPS])
        return head + addresses, addresses + size.to_bytes(4, "big") + b"\0\0\0\x3a"
    head = b"\x45\0" + (20 + size).to_bytes(2, "big") + b"\0\0\x40\0" + bytes([HOPS, 1])
    checksum = 0xFFFF ^ ones_sum(head + addresses)
    return head + checksum.to_bytes(2, "big") + addresses, b""
