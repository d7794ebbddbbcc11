# SPDX-License-Identifier: Apache-2.0
"""Checks every checksum of a frame with code of its own, as a receiver would."""

from __future__ import annotations

import attrs

from galelb.testing.packets import l3_offset

__all__ = ["checksum_problems", "ones_sum"]

ICMP, TCP, UDP, FRAGMENT, AUTH, ICMP6 = 1, 6, 17, 44, 51, 58
ICMP_ERRORS = {ICMP: {3, 4, 5, 11, 12}, ICMP6: {1, 2, 3, 4}}
OPTION_HEADERS = {0, 43, 60}


@attrs.frozen(kw_only=True)
class _Parsed:
    """An IP packet taken apart; `whole` = neither a fragment nor cut off."""

    version: int
    protocol: int
    pseudo: bytes
    body: bytes
    whole: bool
    header: bytes


def ones_sum(data: bytes) -> int:
    """Return the ones' complement sum of 16-bit words; 0xffff over data with a right checksum."""
    padded = data + b"\0" * (len(data) % 2)
    total = sum(int.from_bytes(padded[i : i + 2], "big") for i in range(0, len(padded), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def checksum_problems(data: bytes) -> list[str]:
    """Return what is wrong with the checksums of an Ethernet frame; empty = all are right.

    Looks into ICMP errors: the quoted IPv4 header always, the quoted transport checksum
    when the packet is quoted completely. Fragments' transport checksums cannot be checked.
    """
    return _ip_problems(data[l3_offset(data) :], "")


def _ip_problems(packet: bytes, where: str) -> list[str]:
    parsed = _parse(packet)
    if parsed is None:
        return [f"{where}no IP header"]
    problems = []
    if parsed.version == 4 and ones_sum(parsed.header) != 0xFFFF:
        problems.append(f"{where}IPv4 header checksum")
    if parsed.whole:
        problems += _transport_problems(parsed, where)
    return problems


def _parse(packet: bytes) -> _Parsed | None:
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= 20:
        return _parse4(packet)
    if version == 6 and len(packet) >= 40:
        return _parse6(packet)
    return None


def _parse4(packet: bytes) -> _Parsed:
    size, total = (packet[0] & 15) * 4, int.from_bytes(packet[2:4], "big")
    fragment = int.from_bytes(packet[6:8], "big") & 0x3FFF
    body = packet[size:total]
    return _Parsed(
        version=4,
        protocol=packet[9],
        pseudo=packet[12:20] + bytes([0, packet[9]]) + len(body).to_bytes(2, "big"),
        body=body,
        whole=not fragment and len(packet) >= total,
        header=packet[:size],
    )


def _parse6(packet: bytes) -> _Parsed:
    end = 40 + int.from_bytes(packet[4:6], "big")
    protocol, offset, whole = packet[6], 40, len(packet) >= end
    while protocol in OPTION_HEADERS | {FRAGMENT, AUTH} and offset + 8 <= len(packet):
        if protocol == FRAGMENT:
            whole = whole and not int.from_bytes(packet[offset + 2 : offset + 4], "big") & 0xFFF9
        length = 8 if protocol == FRAGMENT else (packet[offset + 1] + 1) * 8
        if protocol == AUTH:
            length = (packet[offset + 1] + 2) * 4
        protocol, offset = packet[offset], offset + length
    body = packet[offset:end]
    return _Parsed(
        version=6,
        protocol=protocol,
        pseudo=packet[8:40] + len(body).to_bytes(4, "big") + bytes([0, 0, 0, protocol]),
        body=body,
        whole=whole,
        header=packet[:40],
    )


def _transport_problems(parsed: _Parsed, where: str) -> list[str]:
    body, protocol = parsed.body, parsed.protocol
    minimum = {TCP: 20, UDP: 8, ICMP: 8, ICMP6: 8}.get(protocol)
    if minimum is None:
        return []
    if len(body) < minimum:
        return [f"{where}truncated transport header"]
    if protocol == UDP and body[6:8] == b"\0\0":
        return [f"{where}UDP checksum 0 over IPv6"] if parsed.version == 6 else []
    pseudo = b"" if protocol == ICMP else parsed.pseudo
    problems = []
    if ones_sum(pseudo + body) != 0xFFFF:
        problems.append(f"{where}transport checksum (protocol {protocol})")
    if body[0] in ICMP_ERRORS.get(protocol, set()):
        problems += _ip_problems(body[8:], f"{where}inner ")
    return problems
