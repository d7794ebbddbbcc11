# SPDX-License-Identifier: Apache-2.0
"""The base class that a forwarding plugin fills in, and what the core lends to it."""

from __future__ import annotations

import abc
import mmap
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, Protocol

import attrs
from pydantic import BaseModel, ConfigDict

from galelb.component import Component
from galelb.flowshare import FlowShare
from galelb.model import Flow, Interface, IPAddress, Metric, NodeSetup, Service

__all__ = [
    "BpfMap",
    "DataPath",
    "Forwarder",
    "ForwardingView",
    "HostView",
    "MapContent",
    "Options",
    "PlannedNode",
]


class Options(BaseModel):
    """Base of a plugin's `[plugins.<name>]` section: unknown keys are errors, values frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class BpfMap(Protocol):
    """One pinned map, typed by the layout that the compiler returned.

    A struct is a dict of its fields: integers as int (`__be16` fields as they lie in memory),
    arrays of integers as tuples, arrays of u8 as bytes, nested structs as dicts. A plain
    integer key or leaf is an int.
    All methods raise MapError.
    """

    name: str
    max_entries: int

    def get(self, key: Any) -> Any | None:
        """Return the leaf, or None; for a per-CPU map the list of leaves of all CPUs."""

    def set(self, key: Any, leaf: Any) -> None:
        """Write one entry."""

    def update(self, entries: Mapping[Any, Any] | Iterable[tuple[Any, Any]]) -> None:
        """Write many entries, in batches where the kernel can. Struct keys: use pairs."""

    def delete(self, key: Any) -> None:
        """Remove a hash entry; absent is fine."""

    def items(self) -> Iterator[tuple[Any, Any]]:
        """Iterate over all entries (all elements of an array)."""

    def mmap(self) -> mmap.mmap:
        """Map a BPF_F_MMAPABLE array; the caller keeps it. Elements are padded to 8 bytes."""

    def mapped(self, first: int, count: int) -> AbstractContextManager[memoryview]:
        """Map `count` elements from `first`, as `mmap` does, until the block ends.

        All pages of what is mapped are resident, so this is the way to read a little of much.
        """


class DataPath(Protocol):
    """The loaded programs and maps, as far as a forwarder may use them."""

    @property
    def maps(self) -> Mapping[str, BpfMap]:
        """All maps of the composition by name."""

    def run_program(
        self, function: str, data: bytes = b"\0" * 64, *, repeat: int = 1
    ) -> tuple[int, bytes]:
        """Run one of the forwarder's `helper_programs` by BPF_PROG_TEST_RUN; blocks.

        Returns its return value and the data as the program left it. Call it in a worker
        thread.
        """


@attrs.frozen(kw_only=True)
class HostView:
    """What a forwarder may know of the machine when it is asked for constants."""

    private: Interface
    public: Interface
    ip_local_port_range: tuple[int, int]
    tick_shift: int
    """One tick of flow ages is `1 << tick_shift` jiffies: 0.85 to 1.28 s."""
    hz: int
    flow_seed: int
    """Random, the same for as long as the flow tables live."""
    grouped: bool = False
    """Whether other balancers may be on the same network."""

    def ticks(self, seconds: float) -> int:
        """Return seconds as ticks, rounded up."""
        return -int(-seconds * self.hz // (1 << self.tick_shift))


@attrs.frozen(kw_only=True)
class PlannedNode:
    """A node with the index that the program knows it by."""

    index: int
    address: IPAddress
    gateway: IPAddress | None = None
    """The router on the way to it; None when it is directly connected, or not resolved yet."""


@attrs.frozen(kw_only=True)
class ForwardingView:
    """What a forwarder plans from: its services by id and the nodes by index."""

    services: Mapping[int, Service]
    nodes: Mapping[int, PlannedNode]
    host: HostView


MapContent = Mapping[str, Sequence[tuple[Any, Any]]]
"""Desired entries per map name, as (key, leaf) pairs."""


class Forwarder(abc.ABC):
    """A forwarding strategy: one C function, and what its own maps shall hold.

    The C file defines `<name>_forward` and, with `claims_returns`, `<name>_return` (see
    bpf/plugin.h for what they are handed and must return). The core owns parsing, matching,
    node choice, counting, compiling, attaching and lifecycle.
    """

    name: ClassVar[str]
    Options: ClassVar[type[Options]] = Options
    source: ClassVar[Path]
    """The C file, next to the plugin's Python."""
    claims_returns: ClassVar[bool] = False
    translates_icmp: ClassVar[bool] = False
    """Whether the C defines `<name>_icmp`; without it ICMP errors go by `<name>_forward`."""
    supports_tc: ClassVar[bool] = False
    supports_ipv6: ClassVar[bool] = True
    stateful: ClassVar[bool] = False
    """Whether flows keep their node when tables change."""
    flow_maps: ClassVar[tuple[str, ...]] = ()
    """Maps with flows and with all that flows refer to, such as ids. When `flow_layout` changes,
    all of them are new, and `former_flows` reads what the old ones hold."""
    selects_node: ClassVar[bool] = False
    """Whether the C defines `<name>_select`, which picks a client's node; not if `stateful`."""
    wraps: ClassVar[bool] = False
    """Whether the C defines `<name>_wrap`, which puts headers before packets to nodes."""
    helper_programs: ClassVar[tuple[str, ...]] = ()
    """C functions to load beside the entry programs, for `DataPath.run_program`."""

    shared: bool = False
    """Set by the core before the first plan in a group: until `FlowShare.permit` has been called no
    plan permits new flows. What an earlier run was permitted holds until it ends by itself."""

    def __init__(self, options: Any) -> None:
        self.options = options

    def check(self, services: Sequence[Service], host: HostView | None) -> list[str]:
        """Return problems of this configuration, one sentence each; empty = fine.

        `host` is None when a configuration is validated away from its machine.
        """
        del services, host
        return []

    def defines(self, services: Sequence[Service], host: HostView) -> Mapping[str, int | str]:
        """Return macros to compile in, by name; a str is C text."""
        del services, host
        return {}

    def plan(self, view: ForwardingView, maps: Mapping[str, BpfMap]) -> MapContent:
        """Return what the forwarder's own maps shall hold; entries not named are kept."""
        del view, maps
        return {}

    def node_setups(self, service: Service) -> Sequence[NodeSetup]:
        """Return what nodes must be set up for to serve this; `galelb node` does it."""
        del service
        return ()

    def vip_packet(
        self, service: Service, packet: bytes, node: IPAddress, host: HostView
    ) -> bytes | None:
        """Return an IP packet to the VIP as it travels to this node, for checks of its health.

        None = the nodes get packets to their own addresses, and are checked there; an empty
        packet only asks whether that is so. Raises GaleError when there is no way to this node.
        The default leaves the packet as it is where nodes hold the VIP.
        """
        del node, host
        holds = any(setup.kind == "vip_on_lo" for setup in self.node_setups(service))
        return packet if holds else None

    @property
    def any_family(self) -> bool:
        """Whether nodes may have another address family than the VIP."""
        return False

    @property
    def needs_tc_egress(self) -> bool:
        """Whether answers that the kernel forwards must be claimed on public egress (TC)."""
        return False

    def unroutable(self, view: ForwardingView) -> Mapping[int, str]:
        """Return nodes (by index) that cannot get new flows, with the reason for people."""
        del view
        return {}

    def release_nodes(
        self, addresses: Collection[IPAddress], maps: Mapping[str, BpfMap]
    ) -> Collection[IPAddress]:
        """Let go of nodes that left some time ago; return those that no flow holds any more.

        Their indices may then be given to other nodes, so the forwarder's maps must not speak
        of them. Called when indices run short; blocks, and never at the same time as `plan`.
        """
        del maps
        return () if self.stateful else addresses

    def held_services(self, maps: Mapping[str, BpfMap]) -> Collection[int] | None:
        """Return the ids of services that flows hold, None = unknown; blocks.

        Called when ids run short: those of former services without flows are given again.
        """
        del maps
        return None if self.stateful else ()

    def components(self, datapath: DataPath, host: HostView) -> Sequence[Component]:
        """Return background work, for example a sweep of expired flows."""
        del datapath, host
        return []

    def flow_share(self, datapath: DataPath, host: HostView) -> FlowShare | None:
        """Return how a group shares the flows; None = there are none to share.

        Called once for each generation of programs, as `components` is.
        """
        del datapath, host
        return None

    def flow_layout(self, services: Sequence[Service], host: HostView) -> str:
        """Return a text that changes whenever entries of `flow_maps` are read in another way.

        Sizes that other entries depend on belong into it, and a number to raise when the C of
        these maps changes. A changed text costs a migration, an unchanged one wrong flows.
        """
        del services, host
        return ""

    def former_flows(
        self, former: DataPath, datapath: DataPath, layout: str, view: ForwardingView
    ) -> FlowShare | None:
        """Return how to read the flows that a former generation left, to be brought over.

        `former` has the `flow_maps` of then; its other maps and its programs are those of now.
        `layout` is what `flow_layout` said then; services and nodes kept their numbers. The maps
        of `datapath`, where flows go, are planned, and no packet has met them. None = the flows
        cannot be read, which is said loudly. The core calls `permit`, `changes` and
        `everything`; what `flow_share` returns accepts the batches.
        """
        del former, datapath, layout, view
        return None

    def flows(
        self, datapath: DataPath, view: ForwardingView, *, limit: int = 1000
    ) -> Iterator[Flow]:
        """Iterate over the tracked flows; blocks, call it in a worker thread."""
        del datapath, view, limit
        return iter(())

    def flow_count(self) -> int:
        """Return how many flows are tracked, as of the last look; must not block."""
        return 0

    def metrics(self, datapath: DataPath) -> Iterable[Metric]:
        """Return metrics of the forwarder's own."""
        del datapath
        return ()

    def notes(self, services: Sequence[Service], host: HostView) -> list[str]:
        """Return facts worth a line at start, for example capacity."""
        del services, host
        return []
