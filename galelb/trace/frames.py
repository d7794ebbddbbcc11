# SPDX-License-Identifier: Apache-2.0
"""Makes Ethernet frames of what files hold: other link types, frames that were cut short."""

from __future__ import annotations

import attrs

from galelb.pcap import LinkType, Record

__all__ = ["SUPPORTED", "Frame", "ethernet"]

SUPPORTED = frozenset(int(one) for one in LinkType)
"""Link types that a frame can be made of."""

_ETHERNET = 14
_MAX_FRAME = 69_632
"""What the kernel takes for a test run: one page and 16 more, without the room around packets."""
_ETHERTYPES = {4: 0x0800, 6: 0x86DD}
_SMALLEST_ETHERTYPE = 0x600
_SLL = {LinkType.LINUX_SLL: 16, LinkType.LINUX_SLL2: 20}


@attrs.frozen(kw_only=True)
class Frame:
    """A frame to run, or why there is none; `padding` bytes at its end were not captured."""

    data: bytes = b""
    padding: int = 0
    problem: str = ""
    notes: tuple[str, ...] = ()


def ethernet(record: Record, dst_mac: str, src_mac: str) -> Frame:
    """Return the frame of a packet; where it has no link layer the MAC addresses are put on it.

    Bytes that were not captured are zeros: headers decide what becomes of a packet.
    """
    missing = record.length - len(record.data)
    head, skipped, problem = _head(record, dst_mac, src_mac)
    if problem:
        return Frame(problem=problem)
    data = head + record.data[skipped:]
    notes = ["it had no Ethernet header: one was made up"] if head else []
    if len(data) < _ETHERNET:
        return Frame(data=data, problem=f"{len(data)} bytes are less than an Ethernet header")
    if missing:
        notes.append(f"{missing} of its bytes were not captured: they count as zeros")
    if len(data) + missing > _MAX_FRAME:
        return Frame(data=data, problem=f"{len(data) + missing} bytes are more than can be run")
    return Frame(data=data + bytes(missing), padding=missing, notes=tuple(notes))


def _head(record: Record, dst_mac: str, src_mac: str) -> tuple[bytes, int, str]:
    """Return what to put before a packet, how much to take off first, or what is wrong."""
    data, link = record.data, record.link
    if link == LinkType.ETHERNET:
        return b"", 0, ""
    if link not in SUPPORTED:
        return b"", 0, f"link type {link} is not supported, only Ethernet, raw IP and Linux cooked"
    if link in (LinkType.LINUX_SLL, LinkType.LINUX_SLL2):
        return _cooked(data, LinkType(link), dst_mac, src_mac)
    at = 4 if link in (LinkType.NULL, LinkType.LOOP) else 0
    kind = _ETHERTYPES.get(data[at] >> 4) if len(data) > at else None
    if kind is None:
        return b"", 0, "it is neither IPv4 nor IPv6"
    return _made(dst_mac, src_mac, kind), at, ""


def _cooked(data: bytes, link: LinkType, dst_mac: str, src_mac: str) -> tuple[bytes, int, str]:
    """Linux cooked: the sender's address and the ethertype, of which some are no protocols."""
    size = _SLL[link]
    if len(data) < size:
        return b"", 0, f"{len(data)} bytes are less than its link-layer header"
    if link == LinkType.LINUX_SLL:
        length, address, kind = int.from_bytes(data[4:6], "big"), data[6:12], 14
    else:
        length, address, kind = data[11], data[12:18], 0
    ethertype = int.from_bytes(data[kind : kind + 2], "big")
    if ethertype < _SMALLEST_ETHERTYPE:
        return b"", 0, f"protocol {ethertype:#06x} of Linux cooked is no Ethernet frame"
    known = length == len(address) and any(address)
    return _made(dst_mac, address.hex(":") if known else src_mac, ethertype), size, ""


def _made(dst_mac: str, src_mac: str, ethertype: int) -> bytes:
    macs = bytes.fromhex((dst_mac + src_mac).replace(":", ""))
    return macs + ethertype.to_bytes(2, "big")
