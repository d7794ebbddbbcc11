# SPDX-License-Identifier: Apache-2.0
"""Takes frames apart into layers of named fields, for people to read and to compare."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import attrs

__all__ = ["Layer", "layers"]

_VLAN = (0x8100, 0x88A8)
_IPV4, _IPV6, _ARP = 0x0800, 0x86DD, 0x0806
_ICMP, _IPIP, _TCP, _UDP, _IPV6IP, _ICMP6 = 1, 4, 6, 17, 41, 58
_HOP, _ROUTING, _FRAGMENT, _AUTH, _DEST = 0, 43, 44, 51, 60
_EXTENSIONS = {_HOP: "hop-by-hop", _ROUTING: "routing", _AUTH: "auth", _DEST: "destination"}
_FLAGS = "FSRPAUEC"
_MOST = 16
"""Layers at most: whoever nests more wants to tease us."""
_ERRORS4, _ERRORS6 = (3, 4, 5, 11, 12), (1, 2, 3, 4)


@attrs.frozen
class Layer:
    """One header. `name`: eth, vlan, arp, ip, ip6, ext, fragment, tcp, udp, icmp, icmp6, data.

    Numbers are ints, addresses text, `flags` of TCP the letters of tcpdump and more.
    """

    name: str
    fields: dict[str, Any]


@attrs.define
class _Cursor:
    data: bytes
    at: int
    end: int
    next: Callable[[_Cursor], Layer | None] | None

    def take(self, form: str) -> tuple[Any, ...] | None:
        """Return the fields at the cursor and go on; None when they are not all there."""
        size = struct.calcsize(form)
        if self.at + size > self.end:
            return None
        fields = struct.unpack_from(form, self.data, self.at)
        self.at += size
        return fields


def layers(data: bytes, start: int | None = None) -> list[Layer]:
    """Return the layers of a frame, or of the IP packet at `start`; never raises.

    What is cut off or unknown is a last layer "data" with the number of its bytes.
    """
    cursor = _Cursor(data, start or 0, len(data), _ethernet if start is None else _ip)
    return list(_walk(cursor))


def _walk(cursor: _Cursor) -> Iterator[Layer]:
    for _ in range(_MOST):
        if cursor.next is None:
            break
        before = cursor.at
        layer = cursor.next(cursor)
        if layer is None:
            cursor.at = before
            break
        yield layer
    if cursor.end > cursor.at:
        yield Layer("data", {"bytes": cursor.end - cursor.at})


def _mac(data: bytes) -> str:
    return data.hex(":")


def _ethernet(c: _Cursor) -> Layer | None:
    if (fields := c.take("!6s6sH")) is None:
        return None
    dst, src, kind = fields
    c.next = _by_ethertype(kind)
    return Layer("eth", {"dst": _mac(dst), "src": _mac(src), "type": kind})


def _by_ethertype(kind: int) -> Callable[[_Cursor], Layer | None] | None:
    if kind in _VLAN:
        return _vlan
    return {_IPV4: _ip, _IPV6: _ip, _ARP: _arp}.get(kind)


def _vlan(c: _Cursor) -> Layer | None:
    if (fields := c.take("!HH")) is None:
        return None
    c.next = _by_ethertype(fields[1])
    return Layer("vlan", {"vid": fields[0] & 0xFFF, "priority": fields[0] >> 13})


def _arp(c: _Cursor) -> Layer | None:
    c.next = None
    fields = c.take("!HHBBH6s4s6s4s")
    if fields is None or fields[1] != _IPV4:
        return None
    op, sender, who, wanted = fields[4], fields[5], fields[6], fields[8]
    return Layer(
        "arp",
        {
            "op": {1: "request", 2: "reply"}.get(op, op),
            "sender": str(IPv4Address(who)),
            "sender_mac": _mac(sender),
            "target": str(IPv4Address(wanted)),
        },
    )


def _ip(c: _Cursor) -> Layer | None:
    version = c.data[c.at] >> 4 if c.at < c.end else 0
    return {4: _ipv4, 6: _ipv6}.get(version, _nothing)(c)


def _nothing(c: _Cursor) -> Layer | None:
    c.next = None
    return None


def _ipv4(c: _Cursor) -> Layer | None:
    start = c.at
    if (fields := c.take("!BBHHHBBH4s4s")) is None:
        return _nothing(c)
    first, tos, total, ident, fragment, ttl, protocol, check, src, dst = fields
    size = (first & 15) * 4
    if size < 20 or start + size > c.end:
        return _nothing(c)
    c.at = start + size
    c.end = min(c.end, start + max(total, size))
    offset = (fragment & 0x1FFF) * 8
    c.next = None if offset else _by_protocol(protocol)
    values = {
        "src": str(IPv4Address(src)),
        "dst": str(IPv4Address(dst)),
        "ttl": ttl,
        "tos": tos,
        "protocol": protocol,
        "length": total,
        "id": ident,
        "checksum": check,
    }
    if fragment & 0x4000:
        values["df"] = True
    if fragment & 0x3FFF:
        values |= {"fragment_offset": offset, "more_fragments": bool(fragment & 0x2000)}
    if size > 20:
        values["options"] = size - 20
    return Layer("ip", values)


def _ipv6(c: _Cursor) -> Layer | None:
    start = c.at
    if (fields := c.take("!IHBB16s16s")) is None:
        return _nothing(c)
    flow, length, protocol, hops, src, dst = fields
    c.end = min(c.end, start + 40 + length)
    c.next = _by_protocol(protocol)
    return Layer(
        "ip6",
        {
            "src": str(IPv6Address(src)),
            "dst": str(IPv6Address(dst)),
            "hop_limit": hops,
            "tos": flow >> 20 & 0xFF,
            "flow_label": flow & 0xFFFFF,
            "protocol": protocol,
            "length": length,
        },
    )


def _by_protocol(protocol: int) -> Callable[[_Cursor], Layer | None] | None:
    if protocol in _EXTENSIONS:
        return lambda c: _extension(c, protocol)
    return {
        _TCP: _tcp,
        _UDP: _udp,
        _ICMP: _icmp,
        _ICMP6: _icmp6,
        _FRAGMENT: _fragment,
        _IPIP: _ip,
        _IPV6IP: _ip,
    }.get(protocol)


def _extension(c: _Cursor, protocol: int) -> Layer | None:
    start = c.at
    if (fields := c.take("!BB")) is None:
        return None
    size = (fields[1] + 2) * 4 if protocol == _AUTH else (fields[1] + 1) * 8
    if start + size > c.end:
        return None
    c.at = start + size
    c.next = _by_protocol(fields[0])
    return Layer("ext", {"kind": _EXTENSIONS[protocol], "bytes": size})


def _fragment(c: _Cursor) -> Layer | None:
    if (fields := c.take("!BBHI")) is None:
        return None
    offset = fields[2] & 0xFFF8
    c.next = None if offset else _by_protocol(fields[0])
    values = {"fragment_offset": offset, "more_fragments": bool(fields[2] & 1), "id": fields[3]}
    return Layer("fragment", values | {"protocol": fields[0]})


def _tcp(c: _Cursor) -> Layer | None:
    c.next = None
    start = c.at
    if (fields := c.take("!HHIIBBHHH")) is None:
        return None
    sport, dport, seq, ack, size, flags, window, check, _ = fields
    c.at = min(c.end, start + max(20, (size >> 4) * 4))
    names = "".join(letter for bit, letter in enumerate(_FLAGS) if flags >> bit & 1)
    return Layer(
        "tcp",
        {
            "sport": sport,
            "dport": dport,
            "flags": names,
            "seq": seq,
            "ack": ack,
            "window": window,
            "checksum": check,
        },
    )


def _udp(c: _Cursor) -> Layer | None:
    c.next = None
    if (fields := c.take("!HHHH")) is None:
        return None
    names = ("sport", "dport", "length", "checksum")
    return Layer("udp", dict(zip(names, fields, strict=True)))


def _icmp(c: _Cursor) -> Layer | None:
    return _message(c, "icmp", _ERRORS4)


def _icmp6(c: _Cursor) -> Layer | None:
    return _message(c, "icmp6", _ERRORS6)


def _message(c: _Cursor, name: str, errors: tuple[int, ...]) -> Layer | None:
    c.next = None
    if (fields := c.take("!BBHI")) is None:
        return None
    kind, code, check, rest = fields
    values = {"type": kind, "code": code, "checksum": check}
    if kind in errors:
        c.next = _ip
        if name == "icmp6" and kind == 2:
            values["mtu"] = rest
        elif name == "icmp" and (kind, code) == (3, 4):
            values["mtu"] = rest & 0xFFFF
    else:
        values["rest"] = rest
    return Layer(name, values)
