# SPDX-License-Identifier: Apache-2.0
"""Plans a lab: every name and address follows from its spec, before anything exists."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_interface
from pathlib import Path

from galelb.group.ownership import rendezvous
from galelb.lab.hosts import (
    CLIENTS,
    CLIENTS_PORT,
    LAB_RUN_DIR,
    PRIVATE,
    PUBLIC,
    UDP_PORT,
    Host,
    InterfaceAddress,
    Link,
    Network,
    Plan,
    Role,
    Vip,
)
from galelb.lab.spec import FAMILIES, MAX_BALANCERS, LabSpec
from galelb.model import IPAddress

__all__ = ["make_plan"]

# Documentation and unique-local ranges: nobody mistakes them for a real network, and
# nothing outside our namespaces ever sees them.
_SUBNETS = {
    CLIENTS: ("198.51.100.{}/24", "2001:db8:51::{}/64"),
    PUBLIC: ("203.0.113.{}/24", "2001:db8:113::{}/64"),
    PRIVATE: ("10.113.0.{}/24", "fd00:113::{}/64"),
}
# Behind a router VIPs are of no network that a machine is on: they exist where they are announced.
_ROUTED_VIPS = ("192.0.2.{}/32", "2001:db8:2::{}/128")
_FIRST = {
    Role.ROUTER: 0,
    Role.ETCD: 1,
    Role.BALANCER: 10,
    Role.NODE: 70,
    Role.CLIENT: 130,
}
_FIRST_VIP, _FIRST_SOURCE, _GATEWAY = 190, 210, 9
_DEVICE = {CLIENTS: "cli0", PUBLIC: "pub0", PRIVATE: "prv0"}
_SHORT = {CLIENTS: "cli", PUBLIC: "pub", PRIVATE: "prv"}
_NAMES = {Role.BALANCER: "lb", Role.NODE: "node", Role.CLIENT: "client"}


def make_plan(spec: LabSpec, run_dir: Path = LAB_RUN_DIR) -> Plan:
    """Plan the lab: every name and address; touches nothing."""
    directory = run_dir / spec.name
    hosts = tuple(_hosts(spec, directory))
    return Plan(
        spec=spec,
        directory=directory,
        networks=tuple(
            Network(name, f"{spec.prefix}-{_SHORT[name]}") for name in _networks_of(spec)
        ),
        hosts=hosts,
        gateways=tuple(address.ip for address in _group_gateways(spec)),
        vips=tuple(_group_vips(spec) if spec.is_group else _own_vips(spec, hosts)),
    )


def _networks_of(spec: LabSpec) -> list[str]:
    return [CLIENTS] * spec.has_router + [PUBLIC] + [PRIVATE] * (not spec.one_armed)


def _hosts(spec: LabSpec, directory: Path) -> Iterator[Host]:
    counts = {Role.BALANCER: spec.balancers, Role.NODE: spec.nodes, Role.CLIENT: spec.clients}
    for role, count in counts.items():
        for index in range(count):
            yield _host(spec, directory, role, index, f"{_NAMES[role]}{index + 1}")
    if spec.has_router:
        yield _host(spec, directory, Role.ROUTER, 0, "router")
    if spec.has_etcd:
        yield _host(spec, directory, Role.ETCD, 0, "etcd")


def _host(spec: LabSpec, directory: Path, role: Role, index: int, name: str) -> Host:
    sources: tuple[IPAddress, ...] = ()
    if spec.is_group and spec.translates and not spec.is_dnat and role is Role.BALANCER:
        private = _addresses(spec, _private(spec), _FIRST_SOURCE + index + 1)
        sources = tuple(address.ip for address in private)
    return Host(
        name=name,
        role=role,
        namespace=f"{spec.prefix}-{name}",
        links=tuple(_links(spec, role, index)),
        directory=directory,
        weight=spec.weight(index) if role is Role.NODE else 1,
        gateways=tuple(address.ip for address in _gateways(spec, role)),
        sources=sources,
    )


def _private(spec: LabSpec) -> str:
    return PUBLIC if spec.one_armed else PRIVATE


def _networks_of_role(spec: LabSpec, role: Role) -> tuple[str, ...]:
    clients, private = CLIENTS if spec.has_router else PUBLIC, _private(spec)
    of_role = {
        Role.BALANCER: (PUBLIC, private),
        Role.NODE: (private, PUBLIC) if spec.direct else (private,),
        Role.CLIENT: (clients,),
        Role.ROUTER: (clients, PUBLIC),
        Role.ETCD: (private,),
    }
    return tuple(dict.fromkeys(of_role[role]))


def _links(spec: LabSpec, role: Role, index: int) -> Iterator[Link]:
    for network in _networks_of_role(spec, role):
        addresses = _addresses(spec, network, _FIRST[role] + index + 1)
        vips: tuple[InterfaceAddress, ...] = ()
        if spec.needs_vips and role is Role.BALANCER:
            vips = _addresses(spec, network, _FIRST_VIP + index + 1)
        yield Link(_DEVICE[network], network, addresses, vips)


def _gateways(spec: LabSpec, role: Role) -> tuple[InterfaceAddress, ...]:
    """Return the next hops of a host's default routes; empty where it needs none."""
    on = _networks_of_role(spec, role)
    if spec.has_router and role is not Role.ROUTER and (CLIENTS in on or PUBLIC in on):
        network = CLIENTS if CLIENTS in on else PUBLIC
        return _addresses(spec, network, _FIRST[Role.ROUTER] + 1)
    if role is Role.NODE and spec.is_dnat:
        # Answers must pass the balancer again, so it is the nodes' gateway.
        return _group_gateways(spec) or _addresses(spec, _private(spec), _FIRST[Role.BALANCER] + 1)
    return ()


def _group_gateways(spec: LabSpec) -> tuple[InterfaceAddress, ...]:
    """Return the addresses that move with the VIPs from balancer to balancer."""
    if not (spec.is_group and spec.is_dnat):
        return ()
    return _addresses(spec, _private(spec), _GATEWAY)


def _addresses(spec: LabSpec, network: str, number: int) -> tuple[InterfaceAddress, ...]:
    ipv4, ipv6 = spec.ipv4, spec.ipv6
    if network == PRIVATE and spec.node_family:
        ipv4, ipv6 = (spec.node_family == family for family in FAMILIES)
    return _of_families(_SUBNETS[network], number, ipv4=ipv4, ipv6=ipv6)


def _of_families(
    templates: tuple[str, str], number: int, *, ipv4: bool, ipv6: bool
) -> tuple[InterfaceAddress, ...]:
    v4, v6 = (template.format(number) for template in templates)
    return tuple(ip_interface(text) for text in [v4] * ipv4 + [v6] * ipv6)


def _own_vips(spec: LabSpec, hosts: tuple[Host, ...]) -> Iterator[Vip]:
    for host in hosts:
        if host.role is Role.BALANCER:
            for interface in host.vips or host.addresses(PUBLIC):
                yield from _services_at(spec, interface, host.name, "")


def _group_vips(spec: LabSpec) -> Iterator[Vip]:
    """Yield as many VIPs as there are balancers, so chosen that each balancer has one.

    With dnat it is one, since all of them have one owner. A node sees a client's own port there,
    and cannot tell two connections from one port to two VIPs apart.
    """
    count = 1 if spec.is_dnat else spec.balancers
    names = [f"{_NAMES[Role.BALANCER]}{index + 1}" for index in range(spec.balancers)]
    pools = [
        _pool(spec, ipv4=ipv4, ipv6=not ipv4) for ipv4 in [True] * spec.ipv4 + [False] * spec.ipv6
    ]
    for number, name in enumerate(names[:count], start=1):
        for pool in pools:
            own = [one for one in pool if rendezvous(str(one.ip), names) == name]
            chosen = (own or pool)[0]
            pool.remove(chosen)
            yield from _services_at(spec, chosen, None, f"-{number}")


def _pool(spec: LabSpec, *, ipv4: bool, ipv6: bool) -> list[InterfaceAddress]:
    templates = _ROUTED_VIPS if spec.has_router else _SUBNETS[PUBLIC]
    numbers = range(_FIRST_VIP + 1, _FIRST_VIP + 1 + MAX_BALANCERS)
    return [
        interface
        for number in numbers
        for interface in _of_families(templates, number, ipv4=ipv4, ipv6=ipv6)
    ]


def _services_at(
    spec: LabSpec, interface: InterfaceAddress, balancer: str | None, suffix: str
) -> Iterator[Vip]:
    ports = {"tcp": CLIENTS_PORT} | ({"udp": UDP_PORT} if spec.udp else {})
    for protocol, port in ports.items():
        family = f"{protocol}{interface.version}{suffix}"
        yield Vip(
            service=family if spec.needs_services else "default",
            balancer=balancer,
            address=str(interface.ip),
            port=port,
            protocol=protocol,
        )
