# SPDX-License-Identifier: Apache-2.0
"""The sections of lb.toml as frozen models: every key with its type, default and meaning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SerializeAsAny

from galelb.config.types import (
    Address,
    Folder,
    InterfaceName,
    Label,
    Mac,
    OptionalLabel,
    PluginName,
    Port,
    VipAddress,
    at_least,
    at_most,
    blacklist_limit,
    matches,
    prime,
)
from galelb.durations import Duration
from galelb.forwarder import Options
from galelb.model import Node, Protocol, Service

__all__ = [
    "AnnounceSection",
    "BalancerConfig",
    "BalancerSections",
    "ForwardingSection",
    "InstanceSection",
    "NodeHealthSection",
    "NodeSection",
    "PeerAddress",
    "PrivateInterfaceSection",
    "PublicInterfaceSection",
    "QuorumSection",
    "Section",
    "ServiceSection",
]

_MAX_SERVICES = 4096
_MAX_NODES = 4096
_MAX_PEERS = 64
_MAX_WEIGHT = 65535


class Section(BaseModel):
    """Base of every section: unknown keys are errors, no silent conversions, frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class InstanceSection(Section):
    """Which balancer of this machine; several may run beside each other."""

    name: Annotated[str, matches("[a-z0-9-]{1,32}", "must be 1 to 32 of a-z, 0-9 and -")] = (
        "default"
    )
    """Name of this instance: 1 to 32 of a-z, 0-9 and "-"."""
    run_dir: Folder = Path("/run/galelb")
    """Where sockets, pins and state live, in a folder named after the instance."""

    @property
    def directory(self) -> Path:
        """The folder of this instance."""
        return self.run_dir / self.name


class PrivateInterfaceSection(Section):
    """The side of the nodes and of the other balancers."""

    node_port: Port = 7070
    """TCP port that nodes connect to."""
    api_port: Port = 5555
    """TCP port of the API."""
    api_token_reads: bool = False
    """Whether reading the API over TCP needs the token, as changes do."""
    load_balancer_port: Port = 9090
    """Port that other balancers connect to (synchronisation)."""
    net_interface_private: InterfaceName
    """Network interface towards the nodes."""


class PublicInterfaceSection(Section):
    """The side of the clients."""

    clients_port: Port = 8080
    """TCP port of the default service, used when the file has no [[services]]."""
    net_interface_public: InterfaceName
    """Network interface towards the clients; may be the private one."""


class NodeHealthSection(Section):
    """When a node gets traffic, and when it loses it."""

    checks_before_routing: Annotated[int, Field(ge=1, le=1000)] = 3
    """Good reports in a row before a node gets traffic."""
    checks_timeout: Annotated[Duration, at_least("1s")] = 5.0
    """Without a report for this long a node loses its traffic; at least 1s."""
    black_list_after_fails: Annotated[int, AfterValidator(blacklist_limit)] = 5
    """Falls before a node is ignored for a while; -1 turns that off."""
    black_list_expiry: Annotated[Duration, at_least("1s")] = 300.0
    """How long a node is ignored."""
    slow_start: Annotated[Duration, at_most("24h")] = 0.0
    """How long the share of a node that returns grows from a little to all of it; 0s = at once."""
    load_weight: bool = False
    """Whether nodes with more runnable tasks than CPUs get a smaller share (40 % or more)."""
    sources: Annotated[tuple[PluginName, ...], Field(max_length=16)] = ("health_grpc",)
    """Plugins that learn the health of nodes; empty when all nodes are static."""


class PeerAddress(Section):
    """Where another balancer listens."""

    ip: Address
    """Its address."""
    port: Port = 9090
    """Its load_balancer_port."""


class QuorumSection(Section):
    """The group of balancers."""

    enforce_single_configuration: bool = False
    """Ignore peers whose shared configuration differs."""
    addresses: Annotated[tuple[PeerAddress, ...], Field(max_length=_MAX_PEERS)] = ()
    """The other balancers; listing oneself is fine."""
    transport: PluginName | None = None
    """Plugin that carries state between balancers."""
    name: Annotated[
        str,
        matches("[A-Za-z0-9.:_-]{0,48}", "must be up to 48 letters, digits, '.', ':', '_', '-'"),
    ] = ""
    """Name of this balancer in the group, unique; its own address when left out."""
    sharing_port: Port = 9091
    """TCP port of the private interface where peers fetch this balancer's connections."""


class ForwardingSection(Section):
    """How packets reach the nodes."""

    plugin: PluginName = "l4_nat"
    """Forwarder of the services that name none."""
    scheduler: PluginName = "maglev"
    """Builds the lookup tables of the services that name no scheduler."""
    table_size: Annotated[int, AfterValidator(prime)] = 65537
    """Slots of a lookup table: a prime, best more than 100 per node; the same in the group."""
    table_seed: Annotated[int, Field(ge=0, le=0xFFFFFFFF)] = 0
    """Seed of the lookup tables; the same in the group."""
    extra_interfaces: Annotated[tuple[InterfaceName, ...], Field(max_length=64)] = ()
    """More interfaces to attach to, such as the veths of nodes on this very machine."""
    xdp_mode: Literal["auto", "native", "generic", "tc"] = "auto"
    """How to attach; auto takes the fastest way that works and says which one and why."""


class AnnounceSection(Section):
    """Who tells the network where a VIP is."""

    plugin: PluginName | None = None
    """Announcer plugin; none leaves that to you."""
    gateways: Annotated[tuple[Address, ...], Field(max_length=16)] = ()
    """Addresses of the private interface that nodes have as their gateway (dnat); with them all
    VIPs have one owner, who has these too."""


class ServiceSection(Section):
    """One VIP, port and protocol that clients connect to."""

    name: Label
    """Name in logs, metrics and commands."""
    vip: VipAddress
    """Virtual IP address."""
    port: Port
    """Port that clients connect to."""
    protocol: Literal["tcp", "udp"] = "tcp"
    """Transport protocol."""
    target_port: Port | None = None
    """Port on the nodes, for forwarders that translate; the same port when left out."""
    forwarder: PluginName | None = None
    """Forwarder of this service; that of [forwarding] when left out."""
    scheduler: PluginName | None = None
    """Builds its lookup table; the one of [forwarding] when left out."""
    vlan: Annotated[int, Field(ge=0, le=4094)] = 0
    """Match this VLAN tag; 0 matches untagged packets."""
    nodes: Annotated[tuple[Address, ...], Field(max_length=_MAX_NODES)] = ()
    """Nodes that serve it; every node of the VIP's family when left out."""

    def service(self, defaults: ForwardingSection) -> Service:
        """Return this section as the value that the rest of galelb works with."""
        return Service(
            name=self.name,
            vip=self.vip,
            port=self.port,
            protocol=Protocol[self.protocol.upper()],
            target_port=self.target_port or self.port,
            forwarder=self.forwarder or defaults.plugin,
            scheduler=self.scheduler or defaults.scheduler,
            vlan=self.vlan,
            nodes=self.nodes,
        )


class NodeSection(Section):
    """A static node: always considered healthy as far as no source says otherwise."""

    ip: Address
    """Private address of the node."""
    mac: Mac | None = None
    """Link-layer address, to need no neighbour discovery."""
    weight: Annotated[int, Field(ge=0, le=_MAX_WEIGHT)] = 1
    """Share of new flows compared with the other nodes; 0 = none."""
    name: OptionalLabel = ""
    """Name in logs and commands."""

    def node(self) -> Node:
        """Return this section as the value that the rest of galelb works with."""
        return Node(address=self.ip, name=self.name, weight=self.weight, mac=self.mac, static=True)


class BalancerSections(Section):
    """Everything in lb.toml but the plugins' own sections."""

    instance: InstanceSection = InstanceSection()
    """Which balancer of this machine."""
    private_interface: PrivateInterfaceSection
    """The side of the nodes."""
    public_interface: PublicInterfaceSection
    """The side of the clients."""
    node_health: NodeHealthSection = NodeHealthSection()
    """When a node gets traffic."""
    load_balancer_quorum: QuorumSection = QuorumSection()
    """The group of balancers."""
    forwarding: ForwardingSection = ForwardingSection()
    """How packets reach the nodes."""
    announce: AnnounceSection = AnnounceSection()
    """Who tells the network where a VIP is."""
    services: Annotated[tuple[ServiceSection, ...], Field(max_length=_MAX_SERVICES)] = ()
    """What clients connect to; without any: the public interface's address and clients_port."""
    nodes: Annotated[tuple[NodeSection, ...], Field(max_length=_MAX_NODES)] = ()
    """Static nodes."""


class BalancerConfig(BalancerSections):
    """A whole, validated lb.toml; see `galelb.config.load_balancer_config`."""

    plugins: Mapping[str, SerializeAsAny[Options]] = {}
    """The options of every plugin in use, by plugin name; defaults where the file has none."""
    path: Path = Path("lb.toml")
    """The file it was read from."""

    def configured_services(self) -> tuple[Service, ...]:
        """Return the services of the file; empty = the default service, made at run time."""
        return tuple(section.service(self.forwarding) for section in self.services)

    @property
    def forwarders(self) -> tuple[str, ...]:
        """Names of the forwarders in use, sorted."""
        if not self.services:
            return (self.forwarding.plugin,)
        return tuple(sorted({s.forwarder or self.forwarding.plugin for s in self.services}))

    @property
    def schedulers(self) -> tuple[str, ...]:
        """Names of the schedulers in use, sorted; that of [forwarding] is always ready."""
        default = self.forwarding.scheduler
        return tuple(sorted({default, *(s.scheduler or default for s in self.services)}))
