# SPDX-License-Identifier: Apache-2.0
"""The hosts of a lab: names, namespaces and addresses, planned before anything exists."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from pathlib import Path
from typing import Any

import attrs

from galelb.errors import LabError
from galelb.lab.spec import FAMILIES, LabSpec

__all__ = [
    "CLIENTS_PORT",
    "LAB_RUN_DIR",
    "NODE_PORT",
    "PRIVATE",
    "PUBLIC",
    "UDP_PORT",
    "Host",
    "Link",
    "Network",
    "Plan",
    "Role",
    "Vip",
    "host_json",
    "make_plan",
]

LAB_RUN_DIR = Path("/run/galelb-lab")
CLIENTS_PORT = 8080
UDP_PORT = 5300
NODE_PORT = 7070
PUBLIC = "public"
PRIVATE = "private"

InterfaceAddress = IPv4Interface | IPv6Interface

# Documentation and unique-local ranges: nobody mistakes them for a real network, and
# nothing outside our namespaces ever sees them.
_SUBNETS = {
    PUBLIC: ("203.0.113.{}/24", "2001:db8:113::{}/64"),
    PRIVATE: ("10.113.0.{}/24", "fd00:113::{}/64"),
}
_FIRST = {"balancer": 10, "node": 70, "client": 130, "vip": 190}
_DEVICE = {PUBLIC: "pub0", PRIVATE: "prv0"}


class Role(enum.StrEnum):
    """What a host of the lab is."""

    BALANCER = "balancer"
    NODE = "node"
    CLIENT = "client"


_SHORT = {Role.BALANCER: "lb", Role.NODE: "node", Role.CLIENT: "client"}


@attrs.frozen
class Network:
    """A bridge in a namespace of its own."""

    name: str
    namespace: str


@attrs.frozen
class Link:
    """A host's interface: `device` in the host; the bridge's port has the host's name."""

    device: str
    network: str
    addresses: tuple[InterfaceAddress, ...]
    vips: tuple[InterfaceAddress, ...] = ()
    """More addresses, for clients only."""


@attrs.frozen(kw_only=True)
class Host:
    """One machine of the lab, which is a network namespace."""

    name: str
    role: Role
    namespace: str
    links: tuple[Link, ...]
    directory: Path
    weight: int = 1

    @property
    def config(self) -> Path | None:
        """The configuration file; None for a client."""
        if self.role is Role.CLIENT:
            return None
        suffix = "lb" if self.role is Role.BALANCER else "node"
        return self.directory / f"{self.name}.{suffix}.toml"

    @property
    def log(self) -> Path:
        """Where what the host's processes print goes."""
        return self.directory / f"{self.name}.log"

    @property
    def instance(self) -> Path:
        """The instance directory of a balancer (its pins, state and API socket)."""
        return self.directory / self.name

    def addresses(self, network: str) -> tuple[InterfaceAddress, ...]:
        """Return this host's addresses in a network; empty when it is not attached."""
        return tuple(
            address for link in self.links if link.network == network for address in link.addresses
        )

    @property
    def vips(self) -> tuple[InterfaceAddress, ...]:
        """Return the addresses that are for clients only."""
        return tuple(vip for link in self.links for vip in link.vips)


@attrs.frozen(kw_only=True)
class Vip:
    """An address and port that clients connect to."""

    service: str
    balancer: str
    address: str
    port: int
    protocol: str


@attrs.frozen(kw_only=True)
class Plan:
    """Everything of a lab that follows from its spec; the same spec gives the same plan."""

    spec: LabSpec
    directory: Path
    networks: tuple[Network, ...]
    hosts: tuple[Host, ...]
    vips: tuple[Vip, ...]

    @property
    def private(self) -> str:
        """The network between balancers and nodes."""
        return PUBLIC if self.spec.one_armed else PRIVATE

    def of(self, role: Role) -> tuple[Host, ...]:
        """Return the hosts of one role in order."""
        return tuple(host for host in self.hosts if host.role is role)

    def host(self, name: str) -> Host:
        """Return a host by name, or raise LabError naming those that exist."""
        for host in self.hosts:
            if host.name == name:
                return host
        known = ", ".join(host.name for host in self.hosts)
        raise LabError(f"lab {self.spec.name}: no host {name!r}; hosts: {known}")

    def network(self, name: str) -> Network:
        """Return a network by name."""
        return next(network for network in self.networks if network.name == name)

    @property
    def namespaces(self) -> tuple[str, ...]:
        """Every namespace of the lab."""
        bridges = tuple(network.namespace for network in self.networks)
        return bridges + tuple(host.namespace for host in self.hosts)


def make_plan(spec: LabSpec, run_dir: Path = LAB_RUN_DIR) -> Plan:
    """Plan the lab: every name and address; touches nothing."""
    directory = run_dir / spec.name
    names = {PUBLIC: "pub"} if spec.one_armed else {PUBLIC: "pub", PRIVATE: "prv"}
    hosts = tuple(_hosts(spec, directory))
    return Plan(
        spec=spec,
        directory=directory,
        networks=tuple(Network(name, f"{spec.prefix}-{short}") for name, short in names.items()),
        hosts=hosts,
        vips=tuple(vip for host in hosts for vip in _vips(spec, host)),
    )


def _hosts(spec: LabSpec, directory: Path) -> Iterator[Host]:
    counts = {Role.BALANCER: spec.balancers, Role.NODE: spec.nodes, Role.CLIENT: spec.clients}
    for role, count in counts.items():
        for index in range(count):
            name = f"{_SHORT[role]}{index + 1}"
            yield Host(
                name=name,
                role=role,
                namespace=f"{spec.prefix}-{name}",
                links=tuple(_links(spec, role, index)),
                directory=directory,
                weight=spec.weight(index) if role is Role.NODE else 1,
            )


def _links(spec: LabSpec, role: Role, index: int) -> Iterator[Link]:
    of_node = (PRIVATE, PUBLIC) if spec.direct else (PRIVATE,)
    networks = {Role.BALANCER: (PUBLIC, PRIVATE), Role.NODE: of_node, Role.CLIENT: (PUBLIC,)}
    attached = (PUBLIC,) if spec.one_armed else networks[role]
    for network in attached:
        addresses = _addresses(spec, network, _FIRST[role] + index + 1)
        vips: tuple[InterfaceAddress, ...] = ()
        if spec.needs_vips and role is Role.BALANCER:
            vips = _addresses(spec, network, _FIRST["vip"] + index + 1)
        yield Link(_DEVICE[network], network, addresses, vips)


def _addresses(spec: LabSpec, network: str, number: int) -> tuple[InterfaceAddress, ...]:
    ipv4, ipv6 = spec.ipv4, spec.ipv6
    if network == PRIVATE and spec.node_family:
        ipv4, ipv6 = (spec.node_family == family for family in FAMILIES)
    v4, v6 = (template.format(number) for template in _SUBNETS[network])
    return tuple(ip_interface(text) for text in [v4] * ipv4 + [v6] * ipv6)


def _vips(spec: LabSpec, host: Host) -> Iterator[Vip]:
    if host.role is not Role.BALANCER:
        return
    ports = {"tcp": CLIENTS_PORT} | ({"udp": UDP_PORT} if spec.udp else {})
    for interface in host.vips or host.addresses(PUBLIC):
        for protocol, port in ports.items():
            family = f"{protocol}{interface.version}"
            yield Vip(
                service=family if spec.needs_services else "default",
                balancer=host.name,
                address=str(interface.ip),
                port=port,
                protocol=protocol,
            )


def host_json(host: Host) -> dict[str, Any]:
    """Describe a host for programs (what `lab status --json` shows, less its processes)."""
    return {
        "role": str(host.role),
        "name": host.name,
        "namespace": host.namespace,
        "interfaces": [
            {
                "name": link.device,
                "network": link.network,
                "addresses": [str(address) for address in (*link.addresses, *link.vips)],
            }
            for link in host.links
        ],
        "addresses": [str(address.ip) for link in host.links for address in link.addresses],
        "weight": host.weight if host.role is Role.NODE else None,
        "config": None if host.config is None else str(host.config),
        "log": str(host.log),
    }
