# SPDX-License-Identifier: Apache-2.0
"""What a planned lab consists of: networks, hosts, VIPs; plain values."""

from __future__ import annotations

import enum
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path
from typing import Any

import attrs

from galelb.errors import LabError
from galelb.lab.spec import LabSpec
from galelb.model import IPAddress

__all__ = [
    "CLIENTS",
    "CLIENTS_PORT",
    "LAB_RUN_DIR",
    "NODE_PORT",
    "PEER_PORT",
    "PRIVATE",
    "PUBLIC",
    "SHARING_PORT",
    "UDP_PORT",
    "Host",
    "InterfaceAddress",
    "Link",
    "Network",
    "Plan",
    "Role",
    "Vip",
    "host_json",
]

LAB_RUN_DIR = Path("/run/galelb-lab")
CLIENTS_PORT = 8080
UDP_PORT = 5300
NODE_PORT = 7070
PEER_PORT = 9090
SHARING_PORT = 9091
CLIENTS = "clients"
PUBLIC = "public"
PRIVATE = "private"

InterfaceAddress = IPv4Interface | IPv6Interface


class Role(enum.StrEnum):
    """What a host of the lab is."""

    BALANCER = "balancer"
    NODE = "node"
    CLIENT = "client"
    ROUTER = "router"
    ETCD = "etcd"


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
    gateways: tuple[IPAddress, ...] = ()
    """Its default routes, one a family."""
    sources: tuple[IPAddress, ...] = ()
    """Of a balancer in a group: addresses of its own for packets to nodes, on no interface yet."""

    @property
    def config(self) -> Path | None:
        """The configuration file; None for a host without one."""
        suffix = _CONFIG_SUFFIX.get(self.role)
        return self.directory / f"{self.name}.{suffix}" if suffix else None

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


_CONFIG_SUFFIX = {
    Role.BALANCER: "lb.toml",
    Role.NODE: "node.toml",
    Role.ROUTER: "bird.conf",
}


@attrs.frozen(kw_only=True)
class Vip:
    """An address and port that clients connect to."""

    service: str
    balancer: str | None
    """Whose it is; None = the group's, which decides who has it."""
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
    gateways: tuple[IPAddress, ...] = ()
    """Of a group: addresses that nodes have as their gateway and that move with the VIPs."""

    @property
    def private(self) -> str:
        """The network between balancers and nodes."""
        return PUBLIC if self.spec.one_armed else PRIVATE

    @property
    def key_file(self) -> Path:
        """The file with the group's key."""
        return self.directory / "group.key"

    def of(self, *roles: Role) -> tuple[Host, ...]:
        """Return the hosts of these roles in order."""
        return tuple(host for host in self.hosts if host.role in roles)

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
