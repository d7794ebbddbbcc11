# SPDX-License-Identifier: Apache-2.0
"""How big l4_nat's maps are, and the constants that its C is compiled with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
from galelb_plugins.l4_nat.options import L4NatOptions, PortRange
from galelb_plugins.l4_nat.slices import Shape
from galelb_plugins.l4_nat.sources import ports_of, source_addresses

from galelb.forwarder import HostView
from galelb.model import IPAddress, Service

__all__ = ["FAMILIES", "Layout", "family_sources", "layout", "macros"]

FAMILIES = (4, 6)
ENTRIES_PER_BUCKET = 4
FIRST_SLICE = 1
"""Slice ids start here: 0 means "none" in entries."""


@attrs.frozen(kw_only=True)
class Layout:
    """Sizes per family; the same for as long as the pinned maps live."""

    shapes: Mapping[int, Shape]
    buckets: int
    ports: Mapping[IPAddress, PortRange]


def family_sources(
    options: L4NatOptions, services: Sequence[Service], host: HostView, version: int
) -> tuple[IPAddress, ...]:
    """Return the source addresses of one family; none in dnat."""
    if options.mode == "dnat":
        return ()
    return source_addresses(options, host, [service.vip for service in services], version)


def layout(options: L4NatOptions, services: Sequence[Service], host: HostView) -> Layout:
    """Return the sizes that these options need on this machine."""
    ports = {
        address: ports_of(address, options, host)
        for version in FAMILIES
        for address in family_sources(options, services, host, version)
    }
    shapes: dict[int, Shape] = {}
    next_id = FIRST_SLICE
    for version in FAMILIES:
        counts = [last - first + 1 for a, (first, last) in ports.items() if a.version == version]
        shapes[version] = Shape(
            first_id=next_id, slices=options.max_slices, stride=max(counts, default=0)
        )
        next_id += shapes[version].ids
    wanted = -(-2 * options.max_flows // ENTRIES_PER_BUCKET)
    return Layout(shapes=shapes, buckets=1 << (wanted - 1).bit_length(), ports=ports)


def macros(
    options: L4NatOptions, services: Sequence[Service], host: HostView
) -> dict[str, int | str]:
    """Return the macros of l4_nat.bpf.c."""
    sizes = layout(options, services, host)
    numbers: dict[str, int | str] = {
        "L4_NAT_BUCKETS4": sizes.buckets,
        "L4_NAT_BUCKETS6": sizes.buckets,
        "L4_NAT_MAX_SLICES": FIRST_SLICE + sum(shape.ids for shape in sizes.shapes.values()),
        "L4_NAT_PORT_SLOTS4": max(1, options.max_slices * sizes.shapes[4].stride),
        "L4_NAT_PORT_SLOTS6": max(1, options.max_slices * sizes.shapes[6].stride),
        "L4_NAT_TCP_SYN": host.ticks(options.tcp_syn_timeout),
        "L4_NAT_TCP_ESTABLISHED": host.ticks(options.tcp_established_timeout),
        "L4_NAT_TCP_FIN": host.ticks(options.tcp_fin_timeout),
        "L4_NAT_TCP_CLOSED": host.ticks(options.port_quarantine),
        "L4_NAT_UDP": host.ticks(options.udp_timeout),
        "L4_NAT_UDP_UNREPLIED": host.ticks(options.udp_unreplied_timeout),
        "L4_NAT_DOWN_GRACE": host.ticks(options.down_node_grace),
    }
    if options.mode == "dnat":
        numbers["L4_NAT_DNAT"] = 1
    reserved = _reserved_ports(options, services, host)
    if reserved:
        either = " || ".join(f"(port) == {n}u" for n in reserved)
        numbers["L4_NAT_RESERVED_PORT(port)"] = f"({either})"  # used with a "!" before it
    return numbers


def _reserved_ports(
    options: L4NatOptions, services: Sequence[Service], host: HostView
) -> list[int]:
    """Return the ports of services whose VIP is a source address too: answers would match them."""
    return sorted(
        {
            service.port
            for service in services
            if service.vip in family_sources(options, services, host, service.vip.version)
        }
    )
