# SPDX-License-Identifier: Apache-2.0
"""Which addresses packets to nodes come from, and which ports of theirs are ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from galelb_plugins.l4_nat.options import L4NatOptions, PortRange

from galelb.forwarder import HostView
from galelb.model import IPAddress

__all__ = ["MAX_SOURCES", "number_sources", "ports_of", "source_addresses"]

MAX_SOURCES = 254
"""A flow entry holds 8 bits; 255 means "the client's own address" (dnat)."""

FIRST_PORT = 1024
"""Ports below it are for servers; a node may treat them specially."""


def source_addresses(
    options: L4NatOptions, host: HostView, vips: Sequence[IPAddress], version: int
) -> tuple[IPAddress, ...]:
    """Return the pool of one family; empty when there is none.

    Without a configured pool of that family it is the first address of the private interface
    that is no VIP, or else a VIP: then clients and nodes share an address, which works.
    """
    configured = tuple(a for a in options.source_addresses if a.version == version)
    if configured:
        return configured
    own = [
        address
        for address in host.private.addresses
        if address.version == version and not address.is_link_local and not address.is_loopback
    ]
    own.sort(key=lambda address: address in vips)
    return tuple(own[:1])


def ports_of(address: IPAddress, options: L4NatOptions, host: HostView) -> PortRange:
    """Return the first and last port to allocate on a source address."""
    if options.ports is not None:
        return options.ports
    if address not in (*host.private.addresses, *host.public.addresses):
        return FIRST_PORT, 65535
    first, last = host.ip_local_port_range
    below = (FIRST_PORT, min(first - 1, 65535))
    above = (max(last + 1, FIRST_PORT), 65535)
    return max(below, above, key=lambda ports: ports[1] - ports[0])


def number_sources(
    wanted: Sequence[IPAddress], held: Mapping[int, IPAddress]
) -> dict[int, IPAddress]:
    """Return addresses by index: held ones keep theirs, new ones get the lowest free.

    A held address that is not wanted any more stays, since flows hold its index, until its
    index is the only one left. Addresses beyond `MAX_SOURCES` get none.
    """
    numbers = {index: address for index, address in held.items() if 0 <= index < MAX_SOURCES}
    free = [index for index in range(MAX_SOURCES) if index not in numbers]
    stale = [index for index, address in numbers.items() if address not in wanted]
    known = set(numbers.values())
    for address in wanted:
        if address in known:
            continue
        index = free.pop(0) if free else stale.pop(0) if stale else None
        if index is not None:
            numbers[index] = address
    return numbers
