# SPDX-License-Identifier: Apache-2.0
"""Builders of test frames: readable arguments in, bytes with right checksums out (scapy inside)."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from ipaddress import ip_address
from typing import Any

__all__ = [
    "CLIENT_MAC",
    "ETHERNET",
    "LB_MAC",
    "arp_request",
    "extension",
    "fragments",
    "frame",
    "icmp_echo",
    "icmp_error",
    "l3_offset",
    "neighbour_request",
]

CLIENT_MAC = "02:00:00:00:00:c1"
LB_MAC = "02:00:00:00:00:1b"
ETHERNET = 14
"""Bytes of an Ethernet header without a tag."""


@cache
def scapy() -> Any:
    """Return scapy.all, imported when first needed and without its warnings."""
    logging.getLogger("scapy").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import scapy.all as module
    return module


def frame(
    src: str,
    dst: str,
    sport: int = 0,
    dport: int = 0,
    *,
    protocol: str = "tcp",
    flags: str = "S",
    payload: bytes = b"",
    ttl: int = 64,
    tos: int = 0,
    flow_label: int = 0,
    ident: int = 1,
    df: bool = False,
    options: bytes = b"",
    extensions: Sequence[Any] = (),
    vlans: Sequence[int] = (),
    src_mac: str = CLIENT_MAC,
    dst_mac: str = LB_MAC,
    seq: int = 1000,
    ack: int = 0,
    tcp_options: Sequence[Any] = (),
    checksum: int | None = None,
    minimum: int = 0,
) -> bytes:
    """Return a TCP or UDP frame of the addresses' family.

    `checksum` overrides the transport checksum (None = computed), `vlans` are TCI values from
    the outside in, `options` raw IPv4 options (padded), `minimum` pads the frame with zeros.
    """
    s = scapy()
    if protocol == "tcp":
        transport = s.TCP(
            sport=sport, dport=dport, flags=flags, seq=seq, ack=ack, options=list(tcp_options)
        )
    else:
        transport = s.UDP(sport=sport, dport=dport)
    if checksum is not None:
        transport.chksum = checksum
    ip = _ip(src, dst, ttl=ttl, tos=tos, flow_label=flow_label, ident=ident, df=df, options=options)
    for header in extensions:
        ip = ip / header.copy()
    data = bytes(_link(src_mac, dst_mac, vlans) / ip / transport / payload)
    return data.ljust(minimum, b"\0")


def _ip(
    src: str,
    dst: str,
    *,
    ttl: int,
    tos: int,
    flow_label: int = 0,
    ident: int = 1,
    df: bool = False,
    options: bytes = b"",
) -> Any:
    s = scapy()
    if ip_address(dst).version == 6:
        return s.IPv6(src=src, dst=dst, hlim=ttl, tc=tos, fl=flow_label)
    packet = s.IP(src=src, dst=dst, ttl=ttl, tos=tos, id=ident, flags="DF" if df else 0)
    if options:
        padded = options + b"\0" * (-len(options) % 4)
        packet.ihl = 5 + len(padded) // 4
        packet.options = [s.IPOption(padded)]
    return packet


def _link(src_mac: str, dst_mac: str, vlans: Sequence[int] = ()) -> Any:
    s = scapy()
    link = s.Ether(src=src_mac, dst=dst_mac)
    for tci in vlans:
        link = link / s.Dot1Q(vlan=tci & 0xFFF, prio=tci >> 13)
    return link


def extension(kind: str, size: int = 8) -> Any:
    """Return an IPv6 extension header: hop, dest, routing, auth or atomic (a lone fragment).

    Put another header behind auth: scapy knows no transport checksums right behind it.
    """
    s = scapy()
    filler = [s.PadN(optdata=b"\0" * (size - 4))] if size > 4 else []
    make: dict[str, Callable[[], Any]] = {
        "hop": lambda: s.IPv6ExtHdrHopByHop(options=filler),
        "dest": lambda: s.IPv6ExtHdrDestOpt(options=filler),
        "routing": lambda: s.IPv6ExtHdrRouting(addresses=["2001:db8:9::9"], segleft=0),
        "auth": lambda: s.AH(spi=7, seq=1, icv=b"\0" * 12, payloadlen=4),
        "atomic": lambda: s.IPv6ExtHdrFragment(offset=0, m=0, id=77),
    }
    return make[kind]()


def icmp_echo(src: str, dst: str, *, ttl: int = 64) -> bytes:
    """Return a ping."""
    s = scapy()
    body = s.ICMPv6EchoRequest(id=1) if ip_address(dst).version == 6 else s.ICMP(id=1)
    return bytes(_link(CLIENT_MAC, LB_MAC) / _ip(src, dst, ttl=ttl, tos=0) / body / b"abcdefgh")


def icmp_error(
    src: str,
    dst: str,
    inner: bytes,
    *,
    kind: int,
    code: int = 0,
    rest: int = 0,
    ttl: int = 64,
    tos: int = 0,
    vlans: Sequence[int] = (),
    src_mac: str = CLIENT_MAC,
    dst_mac: str = LB_MAC,
    truncate: int | None = None,
) -> bytes:
    """Return an ICMP or ICMPv6 error; `inner` is a whole frame, quoted from its IP header on.

    `rest` is the second word of the ICMP header (the MTU), `truncate` how much is quoted.
    """
    s = scapy()
    quoted = inner[l3_offset(inner) :]
    if truncate is not None:
        quoted = quoted[:truncate]
    body = bytes([kind, code, 0, 0]) + rest.to_bytes(4, "big") + quoted
    ip = _ip(src, dst, ttl=ttl, tos=tos)
    packet = _link(src_mac, dst_mac, vlans) / ip / s.Raw(body)
    if ip_address(dst).version == 6:
        packet[s.IPv6].nh = 58
        total = s.in6_chksum(58, ip, body)
    else:
        packet[s.IP].proto = 1
        total = s.checksum(body)
    packet[s.Raw].load = body[:2] + total.to_bytes(2, "big") + body[4:]
    return bytes(packet)


def arp_request(src: str, dst: str) -> bytes:
    """Return an ARP request in a minimum-size frame."""
    s = scapy()
    arp = s.ARP(op=1, hwsrc=CLIENT_MAC, psrc=src, pdst=dst)
    return bytes(_link(CLIENT_MAC, "ff:ff:ff:ff:ff:ff") / arp).ljust(60, b"\0")


def neighbour_request(src: str, dst: str) -> bytes:
    """Return an IPv6 neighbour solicitation, what ARP is for IPv4."""
    s = scapy()
    body = s.ICMPv6ND_NS(tgt=dst) / s.ICMPv6NDOptSrcLLAddr(lladdr=CLIENT_MAC)
    return bytes(_link(CLIENT_MAC, LB_MAC) / _ip(src, dst, ttl=255, tos=0) / body)


def l3_offset(data: bytes) -> int:
    """Return where the IP header of a frame starts, behind any VLAN tags."""
    offset = ETHERNET
    while data[offset - 2 : offset] in (b"\x81\x00", b"\x88\xa8"):
        offset += 4
    return offset


def fragments(data: bytes, size: int, *, ident: int = 4711) -> list[bytes]:
    """Cut a frame's IP payload into fragments of `size` bytes (a multiple of 8) each."""
    l3 = l3_offset(data)
    if data[l3] >> 4 == 6:
        return _fragments6(data, l3, size, ident)
    s = scapy()
    header = (data[l3] & 15) * 4
    body = data[l3 + header :]
    cut = []
    for offset in range(0, len(body), size):
        more = offset + size < len(body)
        ip = bytearray(data[l3 : l3 + header])
        part = body[offset : offset + size]
        ip[2:4] = (header + len(part)).to_bytes(2, "big")
        ip[4:6] = ident.to_bytes(2, "big")
        ip[6:8] = (offset // 8 | (0x2000 if more else 0)).to_bytes(2, "big")
        ip[10:12] = b"\0\0"
        ip[10:12] = s.checksum(bytes(ip)).to_bytes(2, "big")
        cut.append(data[:l3] + bytes(ip) + part)
    return cut


def _fragments6(data: bytes, l3: int, size: int, ident: int) -> list[bytes]:
    protocol, body = data[l3 + 6], data[l3 + 40 :]
    cut = []
    for offset in range(0, len(body), size):
        more = offset + size < len(body)
        part = body[offset : offset + size]
        extra = bytes([protocol, 0]) + (offset | int(more)).to_bytes(2, "big")
        ip = bytearray(data[l3 : l3 + 40])
        ip[4:6] = (8 + len(part)).to_bytes(2, "big")
        ip[6] = 44
        cut.append(data[:l3] + bytes(ip) + extra + ident.to_bytes(4, "big") + part)
    return cut
