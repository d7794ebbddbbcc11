# SPDX-License-Identifier: Apache-2.0
"""ICMP errors as the data path reads them: what a packet quotes, and who had sent that."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from galelb.model import IPAddress
from galelb.testing.dissect import Dissected
from galelb.testing.model.values import Arrived
from galelb.testing.rewriting import Quoted

__all__ = ["is_error", "quoted"]

ICMP, TCP, UDP, ICMP6 = 1, 6, 17, 58
ERRORS = {ICMP: {3, 11, 12}, ICMP6: {1, 2, 3, 4}}
HOP, ROUTING, FRAGMENT, DEST = 0, 43, 44, 60
MAX_EXTENSIONS = 6
HEADER = 8
"""Bytes of an ICMP header."""


def is_error(data: bytes, packet: Dissected) -> bool:
    """Whether it is an ICMP error; a later fragment has no ICMP header."""
    if packet.later_fragment or packet.protocol != {4: ICMP, 6: ICMP6}[packet.version]:
        return False
    return data[packet.l4] in ERRORS[packet.protocol]


def quoted(arrived: Arrived) -> Quoted | None:
    """Return what an ICMP error quotes, if that has readable ports of TCP or UDP."""
    packet = arrived.packet
    rest = arrived.data[packet.l4 + HEADER : packet.end]
    header = _ipv4(rest) if packet.version == 4 else _ipv6(rest)
    if header is None:
        return None
    protocol, at = header
    if protocol not in (TCP, UDP) or len(rest) < at + 4:
        return None
    src, dst = _addresses(rest, packet.version)
    return Quoted(
        src=src,
        dst=dst,
        sport=int.from_bytes(rest[at : at + 2], "big"),
        dport=int.from_bytes(rest[at + 2 : at + 4], "big"),
        protocol=protocol,
        l3=packet.l4 + HEADER,
        l4=packet.l4 + HEADER + at,
    )


def _addresses(ip: bytes, version: int) -> tuple[IPAddress, IPAddress]:
    if version == 4:
        return IPv4Address(ip[12:16]), IPv4Address(ip[16:20])
    return IPv6Address(ip[8:24]), IPv6Address(ip[24:40])


def _ipv4(ip: bytes) -> tuple[int, int] | None:
    """Return protocol and offset of the ports; a quoted later fragment has none."""
    if len(ip) < 20 or ip[0] >> 4 != 4 or ip[0] & 15 < 5:
        return None
    if int.from_bytes(ip[6:8], "big") & 0x1FFF:
        return None
    return ip[9], (ip[0] & 15) * 4


def _ipv6(ip: bytes) -> tuple[int, int] | None:
    """Walk the extension headers of the quote."""
    if len(ip) < 40:
        return None
    protocol, at = ip[6], 40
    for _ in range(MAX_EXTENSIONS):
        if protocol not in (HOP, ROUTING, FRAGMENT, DEST):
            break
        if len(ip) < at + 8:
            return None
        if protocol == FRAGMENT and int.from_bytes(ip[at + 2 : at + 4], "big") & 0xFFF8:
            return None
        protocol, at = ip[at], at + (8 if protocol == FRAGMENT else (ip[at + 1] + 1) * 8)
    return protocol, at
