# SPDX-License-Identifier: Apache-2.0
"""Says in a few words what a frame is, also one that was cut off or that travels in a tunnel."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

import attrs

from galelb.model import IPAddress

__all__ = ["Summary", "summarise"]

_IPV4, _IPV6, _ARP = 0x0800, 0x86DD, 0x0806
_VLANS = (0x8100, 0x88A8)
_ICMP, _IPIP, _TCP, _UDP, _IP6, _ICMP6 = 1, 4, 6, 17, 41, 58
_HOP, _ROUTING, _FRAGMENT, _AUTH, _DESTINATION = 0, 43, 44, 51, 60
_EXTENSIONS = (_HOP, _ROUTING, _FRAGMENT, _AUTH, _DESTINATION)
_MAX_EXTENSIONS = 8
_GUE_PORT = 6080
_MAX_DEPTH = 3
_TCP_FLAGS = "FSRP.UEW"
_ICMP_KINDS = {
    0: "echo reply",
    3: "unreachable",
    5: "redirect",
    8: "echo request",
    11: "time exceeded",
    12: "parameter problem",
}
_ICMP6_KINDS = {
    1: "unreachable",
    2: "packet too big",
    3: "time exceeded",
    4: "parameter problem",
    128: "echo request",
    129: "echo reply",
    133: "router solicitation",
    134: "router advertisement",
    135: "neighbour solicitation",
    136: "neighbour advertisement",
    137: "redirect",
}
_FRAG_NEEDED = (3, 4)


@attrs.frozen(kw_only=True)
class Summary:
    """A frame or the packet in it; all of it as text."""

    ends: str = ""
    """Who sends to whom, with ports; empty for what has no addresses."""
    what: str = ""
    inner: Summary | None = None
    """The packet that travels in this one."""

    def __str__(self) -> str:
        inner = f" ({self.inner})" if self.inner else ""
        return f"{self.ends} {self.what}{inner}".strip()


class _CutError(Exception):
    """The bytes end before what was to be read."""


def summarise(frame: bytes) -> Summary:
    """Return what a frame is, by as many bytes of it as there are."""
    try:
        return _frame(frame)
    except _CutError:
        return Summary(what=f"{len(frame)} bytes of something")


def _frame(frame: bytes) -> Summary:
    at, tags = 12, ""
    kind = _number(frame, at, 2)
    while kind in _VLANS:
        tags += f" vlan {_number(frame, at + 2, 2) & 0xFFF}"
        at += 4
        kind = _number(frame, at, 2)
    if kind == _ARP:
        found = _arp(frame, at + 2)
    elif kind in (_IPV4, _IPV6):
        found = _packet(frame, at + 2, 1)
    else:
        found = Summary(what=f"ethertype 0x{kind:04x}")
    return attrs.evolve(found, what=found.what + tags)


def _arp(frame: bytes, at: int) -> Summary:
    asks = _number(frame, at + 6, 2) == 1
    sender = IPv4Address(_bytes(frame, at + 14, 4))
    target = IPv4Address(_bytes(frame, at + 24, 4))
    return Summary(what=f"arp who has {target}, tell {sender}" if asks else f"arp {sender} is here")


def _packet(data: bytes, at: int, depth: int) -> Summary:
    """Return the IP packet at an offset; its version is what its first bits say."""
    version = _number(data, at, 1) >> 4
    if version == 4:
        return _ipv4(data, at, depth)
    if version == 6:
        return _ipv6(data, at, depth)
    return Summary(what="no IP packet")


def _ipv4(data: bytes, at: int, depth: int) -> Summary:
    source, target = IPv4Address(_bytes(data, at + 12, 4)), IPv4Address(_bytes(data, at + 16, 4))
    header, offset = (_number(data, at, 1) & 15) * 4, (_number(data, at + 6, 2) & 0x1FFF) * 8
    protocol = _number(data, at + 9, 1)
    if offset:
        return _fragment(source, target, protocol, offset)
    return _transport(data, at + header, protocol, source, target, depth)


def _ipv6(data: bytes, at: int, depth: int) -> Summary:
    source, target = IPv6Address(_bytes(data, at + 8, 16)), IPv6Address(_bytes(data, at + 24, 16))
    protocol, at = _number(data, at + 6, 1), at + 40
    for _ in range(_MAX_EXTENSIONS):
        if protocol not in _EXTENSIONS or len(data) < at + 8:
            break
        if protocol == _FRAGMENT and (offset := _number(data, at + 2, 2) & 0xFFF8):
            return _fragment(source, target, data[at], offset)
        length = {_FRAGMENT: 8, _AUTH: (data[at + 1] + 2) * 4}.get(protocol, data[at + 1] * 8 + 8)
        protocol, at = data[at], at + length
    return _transport(data, at, protocol, source, target, depth)


def _fragment(source: IPAddress, target: IPAddress, protocol: int, offset: int) -> Summary:
    what = f"{_name(protocol)} fragment at {offset}"
    return Summary(ends=f"{source} > {target}", what=what)


def _transport(
    data: bytes, at: int, protocol: int, source: IPAddress, target: IPAddress, depth: int
) -> Summary:
    ends = f"{source} > {target}"
    try:
        if protocol in (_TCP, _UDP):
            ends = f"{_end(source, data, at)} > {_end(target, data, at + 2)}"
        if protocol == _TCP:
            return Summary(ends=ends, what=f"tcp [{_flags(_number(data, at + 13, 1))}]")
        if protocol in (_ICMP, _ICMP6):
            return Summary(ends=ends, what=_icmp(data, at, protocol))
        start = _tunnelled(data, at, protocol)
        if start and depth < _MAX_DEPTH:
            inner = _packet(data, start, depth + 1)
            return Summary(ends=ends, what="gue" if protocol == _UDP else "ipip", inner=inner)
    except _CutError:
        pass
    return Summary(ends=ends, what=_name(protocol))


def _tunnelled(data: bytes, at: int, protocol: int) -> int:
    """Return where a packet in the packet begins, or 0. GUE: variant 1, a packet and no header."""
    if protocol in (_IPIP, _IP6):
        return at
    if protocol == _UDP and _number(data, at + 2, 2) == _GUE_PORT:
        return at + 8 if _number(data, at + 8, 1) >> 4 in (4, 6) else 0
    return 0


def _icmp(data: bytes, at: int, protocol: int) -> str:
    kind, code = _number(data, at, 1), _number(data, at + 1, 1)
    name = "icmp6" if protocol == _ICMP6 else "icmp"
    if protocol == _ICMP and (kind, code) == _FRAG_NEEDED:
        return f"{name} fragmentation needed, mtu {_number(data, at + 6, 2)}"
    kinds = _ICMP6_KINDS if protocol == _ICMP6 else _ICMP_KINDS
    return f"{name} {kinds.get(kind, f'type {kind}')}"


def _name(protocol: int) -> str:
    names = {_TCP: "tcp", _UDP: "udp", _ICMP: "icmp", _ICMP6: "icmp6"}
    return names.get(protocol, f"protocol {protocol}")


def _end(address: IPAddress, data: bytes, at: int) -> str:
    port = _number(data, at, 2)
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def _flags(bits: int) -> str:
    return "".join(letter for n, letter in enumerate(_TCP_FLAGS) if bits & 1 << n) or "none"


def _number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(_bytes(data, at, size), "big")


def _bytes(data: bytes, at: int, size: int) -> bytes:
    try:
        (found,) = struct.unpack_from(f"{size}s", data, at)
    except struct.error:
        raise _CutError from None
    return bytes(found)
