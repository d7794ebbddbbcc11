# SPDX-License-Identifier: Apache-2.0
"""What l4_nat can tell before it runs: settings that cannot work, and how much it can hold."""

from __future__ import annotations

from collections.abc import Sequence

from galelb_plugins.l4_nat.codec import POOL
from galelb_plugins.l4_nat.layout import FAMILIES, family_sources
from galelb_plugins.l4_nat.options import L4NatOptions, PortRange
from galelb_plugins.l4_nat.sources import ports_of

from galelb.forwarder import HostView
from galelb.model import IPAddress, Service

__all__ = ["capacity_notes", "problems"]

FEW_PORTS = 256


def problems(
    options: L4NatOptions, services: Sequence[Service], host: HostView | None
) -> list[str]:
    """Return problems of a configuration, one sentence each."""
    if options.mode == "dnat":
        return _dnat_problems(options)
    found = [
        f"source_addresses: at most {POOL} IPv{version} addresses can be used"
        for version in FAMILIES
        if sum(a.version == version for a in options.source_addresses) > POOL
    ]
    if host is not None:
        found += _source_problems(options, services, host)
        found += _port_problems(options, host)
    return found


def _dnat_problems(options: L4NatOptions) -> list[str]:
    useless = [n for n in ("source_addresses", "ports") if n in options.model_fields_set]
    return [
        f'{name}: has no effect with mode = "dnat", where clients keep their addresses and'
        " ports: remove it"
        for name in useless
    ]


def _source_problems(
    options: L4NatOptions, services: Sequence[Service], host: HostView
) -> list[str]:
    found = []
    for version in FAMILIES:
        names = [service.name for service in services if service.vip.version == version]
        if names and not family_sources(options, services, host, version):
            found.append(
                f"source_addresses: service {names[0]} is IPv{version}, but there is no"
                f" IPv{version} address to reach nodes from: name one, or give interface"
                f" {host.private.name} an address"
            )
    return found


def _port_problems(options: L4NatOptions, host: HostView) -> list[str]:
    kernel = host.ip_local_port_range
    own = [a for a in options.source_addresses if _is_kernels(a, host)]
    if not options.source_addresses:
        own = list(host.private.addresses)
    if options.ports is not None:
        if own and _overlap(options.ports, kernel):
            return [_clash(options.ports, kernel, own[0])]
        return []
    for address in own:
        first, last = ports_of(address, options, host)
        if last - first + 1 < FEW_PORTS:
            return [
                f"ports: ip_local_port_range {kernel[0]}-{kernel[1]} leaves fewer than"
                f" {FEW_PORTS} ports on {address}: narrow that sysctl, or use"
                " source_addresses that the kernel does not use"
            ]
    return []


def _is_kernels(address: IPAddress, host: HostView) -> bool:
    return address in (*host.private.addresses, *host.public.addresses)


def _overlap(one: PortRange, other: PortRange) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]


def _clash(ports: PortRange, kernel: PortRange, address: IPAddress) -> str:
    return (
        f"ports: {ports[0]}-{ports[1]} overlaps ip_local_port_range {kernel[0]}-{kernel[1]}, and"
        f" the kernel uses {address} too: choose other ports, or source_addresses that the"
        " kernel does not use"
    )


def capacity_notes(options: L4NatOptions, services: Sequence[Service], host: HostView) -> list[str]:
    """Return facts worth a line at start."""
    if options.mode == "dnat":
        return [f"up to {options.max_flows} flows per address family"]
    stuck = _stuck(options, services, host)
    notes = [stuck] if stuck else []
    for version in sorted({service.vip.version for service in services}):
        sources = family_sources(options, services, host, version)
        counts = [ports_of(address, options, host) for address in sources]
        total = sum(last - first + 1 for first, last in counts)
        notes.append(
            f"IPv{version}: up to {total} flows per node, target port and protocol"
            f" ({len(sources)} source address{'es' if len(sources) != 1 else ''}),"
            f" {options.max_flows} in all"
        )
    return notes


def _stuck(options: L4NatOptions, services: Sequence[Service], host: HostView) -> str:
    """Return that connections would end with this balancer, though others have copies."""
    versions = {service.vip.version for service in services} if host.grouped else set()
    sources = (a for v in sorted(versions) for a in family_sources(options, services, host, v))
    own = [str(address) for address in sources if _is_kernels(address, host)]
    if not own:
        return ""
    return (
        f"connections from {', '.join(own)} end with this balancer, since it is an address of the"
        " machine's own and cannot move: give source_addresses in [plugins.l4_nat] that no machine"
        " has by itself"
    )
