# SPDX-License-Identifier: Apache-2.0
"""One line about a packet, as tcpdump has it, and what differs between two of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from galelb.trace.layers import Layer, layers

__all__ = ["PROTOCOLS", "Change", "Difference", "difference", "summary"]

_IP = ("ip", "ip6")
_LINK = ("eth", "vlan")
_SMALLEST_HEADER = 20
_PORTS = ("tcp", "udp")
_MESSAGES = ("icmp", "icmp6")
PROTOCOLS = {1: "ICMP", 4: "IPIP", 6: "TCP", 17: "UDP", 41: "IPv6", 47: "GRE", 50: "ESP"}
PROTOCOLS |= {58: "ICMPv6", 132: "SCTP"}
_TYPES = {0x0806: "ARP", 0x0800: "IPv4", 0x86DD: "IPv6", 0x88CC: "LLDP", 0x8809: "LACP"}
_ICMP = {
    (3, 0): "net unreachable",
    (3, 1): "host unreachable",
    (3, 3): "port unreachable",
    (3, 4): "fragmentation needed",
    (11, 0): "time exceeded",
}
_ICMP_KINDS = {0: "echo reply", 3: "unreachable", 5: "redirect", 8: "echo request"}
_ICMP_KINDS |= {11: "time exceeded", 12: "parameter problem"}
_ICMP6_KINDS = {1: "unreachable", 2: "packet too big", 3: "time exceeded", 4: "parameter problem"}
_ICMP6_KINDS |= {128: "echo request", 129: "echo reply", 133: "router solicitation"}
_ICMP6_KINDS |= {134: "router advertisement", 135: "neighbour solicitation"}
_ICMP6_KINDS |= {136: "neighbour advertisement"}


@attrs.frozen
class Change:
    """A field that differs."""

    layer: str
    field: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.layer}.{self.field} {self.before} -> {self.after}"


@attrs.frozen(kw_only=True)
class Difference:
    """What became of a packet: headers put before it or taken off, and fields that changed."""

    layers: Sequence[Layer]
    """Of the frame as it left, those of a packet within its tunnel too."""
    added: Sequence[Layer] = ()
    removed: Sequence[Layer] = ()
    changes: Sequence[Change] = ()


def difference(before: bytes, after: bytes) -> Difference:
    """Compare a frame as it came with the same as it left."""
    old, new = layers(before), layers(after)
    outer: list[Layer] = []
    inner = _above(new)
    at = _wrapped_at(before, old, after, new)
    if at is not None:
        outer = [one for one in layers(after[:at]) if one.name not in (*_LINK, "data")]
        inner = layers(after, at)
    return Difference(
        layers=[*(one for one in new if one.name in _LINK), *outer, *inner],
        added=[*_tags(new, old), *outer],
        removed=_tags(old, new),
        changes=[*_changes(_only_eth(old), _only_eth(new)), *_changes(_above(old), inner)],
    )


def _wrapped_at(
    before: bytes, old: Sequence[Layer], after: bytes, new: Sequence[Layer]
) -> int | None:
    """Return where the packet that came lies behind headers that it had not; None if it has none.

    Nothing else makes packets longer.
    """
    start = _l3(new)
    inner = len(after) - (len(before) - _l3(old))
    if inner - start < _SMALLEST_HEADER or inner >= len(after):
        return None
    return inner if after[inner] >> 4 == before[_l3(old)] >> 4 else None


def _l3(found: Sequence[Layer]) -> int:
    return 14 + 4 * sum(one.name == "vlan" for one in found)


def _only_eth(found: Sequence[Layer]) -> list[Layer]:
    """Return the Ethernet header without its type, which follows from what is above."""
    return [
        Layer("eth", {k: v for k, v in one.fields.items() if k != "type"})
        for one in found
        if one.name == "eth"
    ]


def _above(found: Sequence[Layer]) -> list[Layer]:
    return [one for one in found if one.name not in _LINK]


def _tags(mine: Sequence[Layer], other: Sequence[Layer]) -> list[Layer]:
    tags = [one for one in other if one.name == "vlan"]
    return [one for one in mine if one.name == "vlan" and one not in tags]


def _changes(old: Sequence[Layer], new: Sequence[Layer]) -> Iterator[Change]:
    """Compare layer by layer; from the first one that is of another kind, nothing is said.

    What an ICMP error quotes has layers called "quoted ip" and so on.
    """
    quoted = ""
    for one, other in zip(old, new, strict=False):
        if one.name != other.name:
            return
        names = dict.fromkeys([*one.fields, *other.fields])
        for name in names:
            values = one.fields.get(name), other.fields.get(name)
            if values[0] != values[1]:
                yield Change(f"{quoted}{one.name}", name, *values)
        if one.name in _MESSAGES:
            quoted = "quoted "


def summary(found: Sequence[Layer], size: int) -> str:
    """Return one line about a frame of `size` bytes."""
    tags = "".join(f"vlan {one.fields['vid']}, " for one in found if one.name == "vlan")
    return f"{tags}{_summary(_above(found), found)}, {size} bytes"


def _summary(above: Sequence[Layer], found: Sequence[Layer]) -> str:
    if above and above[0].name == "arp":
        arp = above[0].fields
        if arp["op"] == "request":
            return f"ARP who has {arp['target']}? tell {arp['sender']}"
        return f"ARP {arp['sender']} is at {arp['sender_mac']}"
    if not above or above[0].name not in _IP:
        kind = found[0].fields["type"] if found and found[0].name == "eth" else None
        if kind is None:
            return "no Ethernet header"
        return f"{_TYPES.get(kind, f'ethertype {kind:#06x}')}, cannot be read"
    return _packet(above)


def _packet(above: Sequence[Layer]) -> str:
    """Describe an IP packet, and those in it."""
    ip, rest = above[0], [one for one in above[1:] if one.name != "ext"]
    part = next((one for one in rest if one.name == "fragment"), None)
    rest = [one for one in rest if one.name != "fragment"]
    fragment = _fragment(ip if part is None else part)
    upper = rest[0] if rest else None
    src, dst = ip.fields["src"], ip.fields["dst"]
    if upper is not None and upper.name in _IP:
        return f"{src} > {dst} [{_packet(rest)}]"
    what, ports = _upper(ip if part is None else part, upper, rest[1:])
    if ports is not None:
        src, dst = _endpoint(src, ports[0]), _endpoint(dst, ports[1])
    hops = ip.fields.get("ttl", ip.fields.get("hop_limit"))
    return f"{src} > {dst} {what}{fragment}, ttl {hops}"


def _upper(
    ip: Layer, upper: Layer | None, rest: Sequence[Layer]
) -> tuple[str, tuple[int, int] | None]:
    if upper is not None and upper.name in _PORTS:
        flags = f" {upper.fields['flags']}" if upper.name == "tcp" else ""
        return f"{upper.name.upper()}{flags}", (upper.fields["sport"], upper.fields["dport"])
    if upper is not None and upper.name in _MESSAGES:
        return _icmp(upper, rest), None
    number = ip.fields["protocol"]
    return PROTOCOLS.get(number, f"protocol {number}"), None


def _icmp(upper: Layer, quoted: Sequence[Layer]) -> str:
    kind, code = upper.fields["type"], upper.fields["code"]
    if upper.name == "icmp":
        name = _ICMP.get((kind, code)) or _ICMP_KINDS.get(kind) or f"type {kind}"
    else:
        name = _ICMP6_KINDS.get(kind) or f"type {kind}"
    mtu = f" (mtu {upper.fields['mtu']})" if "mtu" in upper.fields else ""
    about = f" about [{_packet(quoted)}]" if quoted and quoted[0].name in _IP else ""
    return f"{'ICMP' if upper.name == 'icmp' else 'ICMPv6'} {name}{mtu}{about}"


def _fragment(part: Layer) -> str:
    fields = part.fields
    if "fragment_offset" not in fields:
        return ""
    if not fields["fragment_offset"]:
        return ", first fragment" if fields["more_fragments"] else ""
    return f", fragment at {fields['fragment_offset']}"


def _endpoint(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
