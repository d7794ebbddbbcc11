# SPDX-License-Identifier: Apache-2.0
"""The shapes of answers about nodes, flows and events; see `galelb.api.shapes`."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

__all__ = [
    "Event",
    "Events",
    "Flow",
    "Flows",
    "History",
    "Node",
    "NodeChange",
    "Nodes",
    "WeightWish",
    "Word",
    "described",
]

described = with_config(ConfigDict(use_attribute_docstrings=True))


@described
class Word(TypedDict):
    """The last word of a health source about a node."""

    source: str
    """The source."""
    service: str
    """Which service it speaks of; empty = the node as a whole."""
    word: str
    """serving, not serving, shutting down; of active checks waiting, passed, failed."""
    message: str
    """What else it says."""
    age_s: float
    """Since the report; of an active check since its finding changed."""


@described
class NodeChange(TypedDict):
    """A node as the balancer keeps it: the answer to every change of a node."""

    address: str
    """Which node."""
    name: str
    """Its name; may be empty."""
    state: Literal["probation", "routable", "down", "blacklisted"]
    """What the balancer makes of its health."""
    reason: str
    """Why it is in this state."""
    draining: bool
    """No new connections, because the operator or the node wants so."""
    weight: int
    """The weight that it shall have: the operator's, else its own."""
    own_weight: int
    """The node's own weight: what it announces, else what `[[nodes]]` says, else 1."""
    operator_weight: int | None
    """The weight that was set over the API, or null."""
    effective_weight: float
    """What lookup tables go by now; 0 when it gets no new connections."""
    weight_reason: str
    """Why that is less than its weight; empty when it is not."""
    start_share: int
    """Percent of its weight that its slow start has reached."""
    load_share: int
    """Percent of its weight that its load leaves it."""
    static: bool
    """Whether it is from `[[nodes]]`."""
    neighbour: str | None
    """MAC address of its next hop, null while unknown."""
    failures: int
    """Falls from routable."""
    reports: int
    """Good reports in a row, at most as many as are needed."""
    takes_new_flows: bool
    """Whether lookup tables may name it."""


@described
class Node(NodeChange):
    """A node with its place in the tables and its traffic."""

    index: int
    """Its number in the tables."""
    weight_from: Literal["operator", "node", "config", "default"]
    """Whose word its weight is."""
    load: float | None
    """Runnable tasks per CPU that it reports, averaged over some seconds; null = it does not."""
    unroutable_reason: str
    """Why lookup tables leave it out; empty when they do not."""
    health: list[Word]
    """The last word of every health source."""
    packets: int
    """Packets to it."""
    bytes: int
    """Bytes of whole frames to it."""


@described
class Nodes(TypedDict):
    """All nodes."""

    nodes: list[Node]
    """In the order in which they joined."""


@described
class Flow(TypedDict):
    """A tracked connection."""

    service: str
    """Which service."""
    protocol: Literal["tcp", "udp"]
    """Transport protocol."""
    client: str
    """Address of the client."""
    client_port: int
    """Port of the client."""
    node: str
    """The node it goes to."""
    source: str
    """The client's address as the node sees it."""
    source_port: int
    """The client's port as the node sees it."""
    state: str
    """How far it is, in its forwarder's words; of l4_nat syn_sent, syn_received, established,
    closing, closed, reset; of UDP unreplied, replied."""
    idle_s: float
    """Since its last packet."""


@described
class Flows(TypedDict):
    """A page of flows, sorted by service, client and port."""

    flows: list[Flow]
    """The page."""
    total: int
    """How many match."""
    limit: int
    """How many the page may have."""
    offset: int
    """How many were left out because of `offset`."""
    cursor: str | None
    """Give it as `cursor` for the next page; null = this is the last one."""


@described
class Event(TypedDict):
    """Something that happened; what it has beside `id`, `time` and `event` depends on that."""

    id: str
    """Never the same twice."""
    time: str
    """When (RFC 3339, UTC)."""
    event: str
    """What; see below."""


@described
class Events(TypedDict):
    """The last events."""

    events: list[Event]
    """Oldest first."""


@described
class History(TypedDict):
    """What became of a node, as far as the balancer remembers."""

    node: str
    """Its address."""
    history: list[Event]
    """Oldest first."""


@described
class WeightWish(TypedDict):
    """Another weight."""

    weight: int | None
    """0 to 1000; null = the node's own."""
