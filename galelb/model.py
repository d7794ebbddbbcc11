# SPDX-License-Identifier: Apache-2.0
"""Plain values that the whole product speaks in; frozen, without behaviour of their own."""

from __future__ import annotations

import enum
import math
from ipaddress import IPv4Address, IPv6Address

import attrs

__all__ = [
    "Flow",
    "HealthReport",
    "HealthStatus",
    "HealthWord",
    "IPAddress",
    "Interface",
    "Metric",
    "NextHop",
    "Node",
    "NodeRecord",
    "NodeSetup",
    "NodeState",
    "Peer",
    "Protocol",
    "Service",
    "XdpMode",
    "shared_weight",
]

IPAddress = IPv4Address | IPv6Address


class Protocol(enum.IntEnum):
    """IP protocol numbers of what a service can carry."""

    TCP = 6
    UDP = 17


class XdpMode(enum.StrEnum):
    """How a program is attached to an interface."""

    NATIVE = "native"
    GENERIC = "generic"
    TC = "tc"


class HealthStatus(enum.IntEnum):
    """What a node says of itself; numbers of the wire format (design 6.1)."""

    SERVING = 0
    NOT_SERVING = 1
    SHUTTING_DOWN = 2


class NodeState(enum.StrEnum):
    """What the balancer makes of a node (design 6.1)."""

    PROBATION = "probation"
    ROUTABLE = "routable"
    DOWN = "down"
    BLACKLISTED = "blacklisted"


@attrs.frozen(kw_only=True)
class Service:
    """One VIP, port and protocol that clients connect to."""

    name: str
    vip: IPAddress
    port: int
    protocol: Protocol
    target_port: int
    forwarder: str
    scheduler: str = "maglev"
    """Who builds its lookup table."""
    vlan: int = 0
    nodes: tuple[IPAddress, ...] = ()
    """The nodes that serve it; empty = every node of the VIP's family."""


@attrs.frozen(kw_only=True)
class HealthReport:
    """One report about a node by a health source, as it arrived."""

    source: str
    address: IPAddress
    status: HealthStatus
    message: str = ""
    name: str = ""
    weight: int | None = None
    load: float | None = None
    """Runnable tasks per CPU; None = it says nothing about that."""
    service: str = ""


@attrs.frozen(kw_only=True)
class HealthWord:
    """What one health source last said of a node, for people."""

    source: str
    word: str
    """serving, not serving or shutting down; of an active check waiting, passed or failed."""
    age_s: float
    """Since the report; of an active check since its finding changed."""
    message: str = ""
    service: str = ""


@attrs.frozen(kw_only=True)
class Node:
    """A node as configured or as it announced itself."""

    address: IPAddress
    name: str = ""
    weight: int = 1
    mac: str | None = None
    static: bool = False


@attrs.frozen(kw_only=True)
class NodeRecord:
    """A node with all that the balancer knows and decided about it."""

    node: Node
    state: NodeState
    draining: bool = False
    operator_draining: bool = False
    """Whether it drains because the operator wants it, not (only) by its own word."""
    operator_weight: int | None = None
    failures: int = 0
    reports: int = 0
    reason: str = ""
    """Why it is in this state, for people."""
    neighbour: str | None = None
    """MAC address of its next hop; None while unresolved."""
    start_share: int = 100
    """Percent of its weight that its slow start has reached."""
    load_share: int = 100
    """Percent of its weight that its load leaves it; the operator's weight overrules it."""
    group: bool | None = None
    """What the group of balancers takes it for, which overrules `state`; None = no word."""

    @property
    def routable(self) -> bool:
        """Whether it may get packets: by the group's word, else by this balancer's own view."""
        return self.state is NodeState.ROUTABLE if self.group is None else self.group

    @property
    def weight(self) -> int:
        """The weight that it shall have: the operator's, else the node's own."""
        return self.node.weight if self.operator_weight is None else self.operator_weight

    @property
    def effective_weight(self) -> float:
        """What of its weight counts now: 0 while it drains, less while it starts or is busy."""
        if self.draining:
            return 0
        return shared_weight(self.weight, self.start_share, self.load_share)

    @property
    def takes_new_flows(self) -> bool:
        """Whether lookup tables may name this node."""
        return (
            self.routable and not self.draining and self.neighbour is not None and self.weight > 0
        )


def shared_weight(weight: int, *shares: int) -> float:
    """Return a weight after these shares, each in percent; whole when all of them are full.

    Every balancer of a group gets the same number from the same words.
    """
    if all(share == 100 for share in shares):
        return weight
    return float(weight * math.prod(shares) / 100 ** len(shares))


@attrs.frozen(kw_only=True)
class NodeSetup:
    """What a node must be set up for, so that it can serve a VIP."""

    kind: str
    """vip_on_lo: the VIP is an address of its own that it does not answer ARP for.
    decap_ipip: it unpacks packets to the VIP that come inside another IP packet.
    decap_gue: it unpacks those that come in UDP to `port`, by GUE variant 1.
    Nodes ignore kinds that they do not know."""
    vip: IPAddress
    port: int = 0


@attrs.frozen(kw_only=True)
class NextHop:
    """Where frames to an address leave: interface, MAC addresses, MTU (bytes of the IP packet)."""

    ifindex: int
    dst_mac: str
    src_mac: str
    mtu: int


@attrs.frozen(kw_only=True)
class Interface:
    """A network interface of this machine as netlink describes it."""

    name: str
    ifindex: int
    mac: str
    mtu: int
    addresses: tuple[IPAddress, ...] = ()
    kind: str = ""
    """Kind of a virtual device, such as "veth"; empty for hardware."""


@attrs.frozen(kw_only=True)
class Peer:
    """Another balancer of the group."""

    address: IPAddress
    port: int
    alive: bool = False
    name: str = ""
    """Empty for one that is configured and was never heard of."""
    left: bool = False
    """Whether it said goodbye, rather than died."""


@attrs.frozen(kw_only=True)
class Flow:
    """One tracked connection, as `galelb flows` shows it."""

    service: str
    protocol: Protocol
    client: IPAddress
    client_port: int
    node: IPAddress
    source: IPAddress
    source_port: int
    state: str
    idle_s: float


@attrs.frozen(kw_only=True)
class Metric:
    """One sample for the metrics endpoint; names and units by Prometheus conventions."""

    name: str
    help: str
    value: float
    labels: dict[str, str] = attrs.Factory(dict)
    kind: str = "gauge"
    """gauge, counter, or histogram, whose `value` is the sum of all observations."""
    buckets: tuple[tuple[float, int], ...] = ()
    """Of a histogram: (upper bound, observations up to it), rising; the last bound is infinite."""
