# SPDX-License-Identifier: Apache-2.0
"""The shapes of the API's answers; the OpenAPI document and the reference are made from them.

`galelb.api.serialise` fills them in. A key's text is what the reference says of it.
"""

from __future__ import annotations

from typing import Literal

from typing_extensions import TypedDict

from galelb.api.group_shapes import Group, Peer, Peers
from galelb.api.node_shapes import (
    Event,
    Events,
    Flow,
    Flows,
    History,
    Node,
    NodeChange,
    Nodes,
    WeightWish,
    Word,
    described,
)

__all__ = [
    "Config",
    "Count",
    "Error",
    "Event",
    "Events",
    "Flow",
    "Flows",
    "Group",
    "Health",
    "History",
    "Interface",
    "Node",
    "NodeChange",
    "Nodes",
    "Peer",
    "Peers",
    "Plugin",
    "Plugins",
    "Problem",
    "Service",
    "Services",
    "Status",
    "Totals",
    "WeightWish",
    "Word",
]


@described
class Count(TypedDict):
    """Packets and bytes since the counters were created, which a restart does not change."""

    packets: int
    """Packets."""
    bytes: int
    """Bytes of whole frames."""


@described
class Interface(TypedDict):
    """A network interface and how the balancer is attached to it."""

    name: str
    """Its name."""
    role: Literal["public", "private", "both", "extra"]
    """What it is for."""
    mode: Literal["native", "generic", "tc"] | None
    """How programs are attached; null = not attached."""
    reason: str
    """Why not native; empty for native."""
    ifindex: int | None
    """The kernel's number of it."""


@described
class Totals(TypedDict):
    """How many there are, and how many of them are of use."""

    total: int
    """All."""
    routable: int
    """Services with a routable node; nodes that get new connections."""


@described
class Status(TypedDict):
    """The balancer in one object."""

    ready: bool
    """Whether clients can be served."""
    not_ready_reason: str
    """Why not."""
    version: str
    """Version of galelb."""
    instance: str
    """Name of the instance."""
    pid: int
    """Which process answers."""
    started_at: str
    """Since when it runs (RFC 3339, UTC)."""
    uptime_s: float
    """The same as a duration."""
    adopted: bool
    """Whether it took over programs and maps from an earlier run."""
    config_digest: str
    """Digest of the configuration that a group must share."""
    plugins: list[str]
    """Names of the plugins in use."""
    interfaces: list[Interface]
    """The interfaces in use."""
    services: Totals
    """Services."""
    nodes: Totals
    """Nodes."""
    flows: int
    """Tracked connections, as of the last walk through the tables (up to about a minute ago)."""
    reasons: dict[str, Count]
    """Why packets left the program, by [reason](reasons.md)."""
    event_loop_lag_s: float
    """How late the balancer's own work ran at worst in the last minute or two."""
    notes: list[str]
    """What an operator should know, one sentence each."""


@described
class Health(TypedDict):
    """Whether clients can be served."""

    ready: bool
    """Whether they can."""
    reason: str
    """Why not."""


@described
class Service(TypedDict):
    """A service with its lookup table and its traffic."""

    name: str
    """Its name."""
    id: int
    """Its number in the tables."""
    vip: str
    """The address that clients connect to."""
    port: int
    """The port that clients connect to."""
    protocol: Literal["tcp", "udp"]
    """Transport protocol."""
    target_port: int
    """The port on the nodes."""
    forwarder: str
    """How packets reach the nodes."""
    scheduler: str
    """Who builds its lookup table."""
    vlan: int
    """VLAN tag of its packets, 0 = untagged."""
    nodes: list[str]
    """Addresses that it is limited to; empty = all."""
    routable_nodes: int
    """Nodes in its lookup table."""
    table_digest: str
    """Equal tables on two balancers have equal digests; empty = no table."""
    packets: int
    """Packets to nodes."""
    bytes: int
    """Bytes of whole frames to nodes."""
    drops: dict[str, Count]
    """What was dropped, by [reason](reasons.md)."""


@described
class Services(TypedDict):
    """All services."""

    services: list[Service]
    """In the order of the configuration."""


@described
class Plugin(TypedDict):
    """A plugin in use."""

    name: str
    """Its name."""
    version: str
    """Version of its package."""
    package: str
    """The package that it comes from."""
    kinds: list[str]
    """forwarder, scheduler, health source, ..."""


@described
class Plugins(TypedDict):
    """The plugins in use."""

    plugins: list[Plugin]
    """Sorted by name."""


@described
class Config(TypedDict):
    """The configuration in force, defaults filled in; secrets are replaced by `***`."""

    path: str
    """The file it was read from."""
    config_digest: str
    """Digest of what a group must share."""
    settings: dict[str, object]
    """The sections by name, `plugins` by plugin; durations in seconds."""
    toml: str
    """The same as `galelb check` prints it."""


@described
class Problem(TypedDict):
    """What went wrong."""

    code: str
    """For programs."""
    message: str
    """For people."""


@described
class Error(TypedDict):
    """Every error has this shape."""

    error: Problem
    """What went wrong."""
