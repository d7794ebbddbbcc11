# SPDX-License-Identifier: Apache-2.0
"""What the API may see and change of a running balancer, as values and one protocol."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import attrs

from galelb.abi import Reason
from galelb.errors import GaleError
from galelb.model import Flow, HealthWord, IPAddress, Metric, NodeRecord, Peer, Service, XdpMode

if TYPE_CHECKING:
    from galelb.api.events import EventLog

__all__ = [
    "UNEXPECTED_REASONS",
    "BalancerView",
    "CaptureStream",
    "CaptureWish",
    "ConfigStatus",
    "Count",
    "FlowKey",
    "FlowPage",
    "GroupStatus",
    "InterfaceStatus",
    "NodeStatus",
    "PeerStatus",
    "PluginStatus",
    "ServiceStatus",
    "Status",
    "UnknownNodeError",
    "UnknownServiceError",
]

UNEXPECTED_REASONS = frozenset(
    reason.name.lower()
    for reason in (Reason.NO_NODE, Reason.TABLE_FULL, Reason.MALFORMED, Reason.INTERNAL)
)
"""Names of the reasons that an operator should look into (see `galelb.abi.Reason`)."""


def _unknown(kind: str, wanted: str, known: Sequence[str], command: str) -> str:
    nearest = difflib.get_close_matches(wanted, known, n=1)
    hint = f"did you mean {nearest[0]}?" if nearest else f"`galelb {command}` lists them"
    return f"no {kind} {wanted!r}: {hint}"


class UnknownNodeError(GaleError):
    """No node has this address or name; the message names the nearest one."""

    def __init__(self, wanted: str, known: Sequence[str] = ()) -> None:
        super().__init__(_unknown("node", wanted, known, "nodes"))
        self.wanted = wanted


class UnknownServiceError(GaleError):
    """No service has this name; the message names the nearest one."""

    def __init__(self, wanted: str, known: Sequence[str] = ()) -> None:
        super().__init__(_unknown("service", wanted, known, "services"))
        self.wanted = wanted


@attrs.frozen
class Count:
    """Packets and bytes (of whole frames) since the counters were created."""

    packets: int = 0
    bytes: int = 0


@attrs.frozen(kw_only=True)
class InterfaceStatus:
    """One interface and how the balancer is attached to it."""

    name: str
    role: str
    """public, private or both."""
    mode: XdpMode | None
    """None while nothing is attached, for example because the interface is gone."""
    reason: str = ""
    """Why this mode and not native, or why nothing is attached; empty for native."""
    ifindex: int | None = None


@attrs.frozen(kw_only=True)
class Status:
    """The balancer in one value."""

    version: str
    instance: str
    pid: int
    started_at: float
    """Seconds since the epoch."""
    uptime_s: float
    plugins: tuple[str, ...]
    interfaces: tuple[InterfaceStatus, ...]
    services: int
    services_routable: int
    """Services with at least one routable node."""
    nodes: int
    nodes_routable: int
    flows: int
    reasons: Mapping[str, Count] = attrs.Factory(dict)
    """Counts by the lower-case name of `galelb.abi.Reason`; zero counts left out."""
    notes: tuple[str, ...] = ()
    """What an operator should know, one sentence each: warnings, fallbacks, cut off from peers."""
    config_digest: str = ""
    adopted: bool = False
    """Whether this start took over programs and maps of an earlier one."""
    event_loop_lag_s: float = 0.0
    """How late the balancer's own work ran at worst in the last minute or two."""


@attrs.frozen(kw_only=True)
class NodeStatus:
    """A node with its place in the tables and its traffic."""

    record: NodeRecord
    index: int
    count: Count = Count()
    """Traffic to this node."""
    unroutable: str = ""
    """Why lookup tables leave it out, for people; empty when they may name it."""
    words: tuple[HealthWord, ...] = ()
    """The last word of every health source about it."""
    weight_from: str = "default"
    """Whose word its weight is: operator, node, config or default."""
    load: float | None = None
    """Runnable tasks per CPU that it reports; None = it does not say."""


@attrs.frozen(kw_only=True)
class ServiceStatus:
    """A service with its lookup table and its traffic."""

    service: Service
    id: int
    table_digest: str = ""
    """Digest over (slot -> node address); empty while no node is routable."""
    routable_nodes: int = 0
    count: Count = Count()
    """Traffic to the nodes."""
    drops: Mapping[str, Count] = attrs.Factory(dict)
    """Packets of this service that were not forwarded, by reason; zero counts left out."""


FlowKey = tuple[str, int, int, int, int, int, int]
"""What flows are sorted by, see `galelb.api.paging`."""


@attrs.frozen(kw_only=True)
class FlowPage:
    """A part of the flow table: `flows` as asked for, `total` that match the filter."""

    flows: tuple[Flow, ...]
    total: int
    next: FlowKey | None = None
    """What to ask the next page with; None = this is the last one."""


@attrs.frozen(kw_only=True)
class ConfigStatus:
    """The configuration in force; secrets are replaced already."""

    path: str
    digest: str
    settings: Mapping[str, Any]
    """Sections by name, as plain data."""
    toml: str


@attrs.frozen(kw_only=True)
class PeerStatus:
    """Another balancer as this one sees it."""

    peer: Peer
    version: str = ""
    ready: bool | None = None
    config_digest: str = ""
    same_config: bool | None = None
    """None while it has not told its configuration digest."""
    tables_digest: str = ""
    same_tables: bool | None = None
    last_seen_s: float | None = None
    """Seconds since it was last heard, 0 while it is alive; None = never."""
    lag_s: float | None = None
    """Seconds by which its copy of our flows is behind; None = it has none."""
    copy_behind_s: float | None = None
    """The same of our copy of its flows."""
    copy_complete: bool | None = None
    """None where no forwarder shares flows."""
    note: str = ""


@attrs.frozen(kw_only=True)
class GroupStatus:
    """This balancer's place in its group."""

    name: str
    transport: str
    standing: str
    alive: int
    configured: int
    ready: bool
    config_digest: str
    tables_digest: str
    vips: Mapping[str, str] = attrs.Factory(dict)
    """Owner of each VIP that moves."""
    sources: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class PluginStatus:
    """One plugin that this balancer uses."""

    name: str
    version: str
    package: str
    kinds: tuple[str, ...] = ()
    """forwarder, scheduler, health source, ..."""


@attrs.frozen(kw_only=True)
class CaptureWish:
    """Which packets to capture, how much of each, and when to end."""

    service: str | None = None
    """Only packets of this service."""
    node: IPAddress | None = None
    """Only packets to or from this node."""
    everything: bool = False
    """Also packets that are passed to the kernel because they belong to no service."""
    dropped: bool = False
    """Only packets that are dropped."""
    snaplen: int = 256
    """Bytes of each frame that are kept."""
    count: int | None = None
    """End after so many packets."""
    seconds: float = 3600
    """End after this time."""


class CaptureStream(Protocol):
    """A capture that runs."""

    async def read(self) -> bytes | None:
        """Return the next part of a pcapng file; None when the capture is over."""


@runtime_checkable
class BalancerView(Protocol):
    """The door between the API and the balancer; every method may be called at any time.

    Methods must not block the trio thread. `GaleError` with a plain message is the only
    exception that a caller's input may cause.
    """

    async def status(self) -> Status:
        """Return the balancer in one value."""

    async def ready(self) -> str:
        """Return why the balancer cannot serve clients now, or "" when it can."""

    async def nodes(self) -> tuple[NodeStatus, ...]:
        """Return all nodes, in a stable order."""

    async def services(self) -> tuple[ServiceStatus, ...]:
        """Return all services, in the order of the configuration."""

    async def flows(
        self,
        *,
        service: str | None = None,
        node: IPAddress | None = None,
        client: IPAddress | None = None,
        state: str | None = None,
        limit: int = 100,
        offset: int = 0,
        after: FlowKey | None = None,
    ) -> FlowPage:
        """Return flows that match all given filters; the API has resolved node and service.

        The page follows `after` and `offset` more; `galelb.api.paging.page_of` cuts it.
        """

    async def peers(self) -> tuple[PeerStatus, ...]:
        """Return the other balancers of the group, empty for a lone one."""

    async def group(self) -> GroupStatus | None:
        """Return this balancer's place in its group; None for a lone one."""

    async def plugins(self) -> tuple[PluginStatus, ...]:
        """Return the plugins in use."""

    async def configuration(self) -> ConfigStatus:
        """Return the configuration in force, without secrets."""

    @property
    def events(self) -> EventLog:
        """What happened, and happens."""

    async def drain(self, address: IPAddress, *, on: bool) -> NodeRecord:
        """Stop (or resume) new flows to a node; survives a restart. Raises UnknownNodeError."""

    async def set_weight(self, address: IPAddress, weight: int | None) -> NodeRecord:
        """Override a node's weight (None = its own); survives a restart.

        `weight` is 0 to `galelb.api.limits.MAX_WEIGHT`. Raises UnknownNodeError.
        """

    async def metrics(self) -> Sequence[Metric]:
        """Return every sample for /v1/metrics."""

    def capture(self, wish: CaptureWish) -> AbstractAsyncContextManager[CaptureStream]:
        """Capture packets while the context lasts; the API has resolved service and node.

        Entering raises GaleError when it cannot be done, for example twice at a time.
        """
