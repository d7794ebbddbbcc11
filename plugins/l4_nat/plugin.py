# SPDX-License-Identifier: Apache-2.0
"""The forwarder l4_nat: what its C is compiled with and what its maps shall hold."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from galelb_plugins.l4_nat.check import capacity_notes, problems
from galelb_plugins.l4_nat.flows import FlowReader
from galelb_plugins.l4_nat.former import FLOW_MAPS, flow_layout, former_flows
from galelb_plugins.l4_nat.layout import macros
from galelb_plugins.l4_nat.options import L4NatOptions
from galelb_plugins.l4_nat.planner import Planner
from galelb_plugins.l4_nat.release import held_services
from galelb_plugins.l4_nat.sweeper import Sweeper

from galelb.component import Component
from galelb.flowshare import FlowShare
from galelb.forwarder import (
    BpfMap,
    DataPath,
    Forwarder,
    ForwardingView,
    HostView,
    MapContent,
)
from galelb.model import Flow, IPAddress, Metric, Service

if TYPE_CHECKING:
    from galelb_plugins.l4_nat.share import NatShare

__all__ = ["L4Nat"]


class L4Nat(Forwarder):
    """Stateful NAT with connection tracking (see README.md)."""

    name = "l4_nat"
    Options = L4NatOptions
    source = Path(__file__).with_name("l4_nat.bpf.c")
    claims_returns = True
    translates_icmp = True
    supports_tc = True
    stateful = True
    flow_maps = FLOW_MAPS
    helper_programs = ("l4_nat_sweep", "l4_nat_import")

    options: L4NatOptions

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self._planner = Planner(self.options)
        self._sweeper: Sweeper | None = None
        self._share: NatShare | None = None

    @property
    def needs_tc_egress(self) -> bool:
        """In dnat the kernel may forward answers itself: they are claimed on the way out."""
        return self.options.mode == "dnat"

    def check(self, services: Sequence[Service], host: HostView | None) -> list[str]:
        """Return what cannot work with these services on this machine."""
        return problems(self.options, services, host)

    def notes(self, services: Sequence[Service], host: HostView) -> list[str]:
        """Return how many flows a node can hold."""
        notes = capacity_notes(self.options, services, host)
        if self._planner.unhoused:
            notes.append(
                f"{self._planner.unhoused} combinations of a node, a port and an address of another"
                " balancer have no room, and their flows end with that balancer: raise max_slices"
                f" (now {self.options.max_slices}) in [plugins.l4_nat]"
            )
        return notes

    def defines(self, services: Sequence[Service], host: HostView) -> Mapping[str, int | str]:
        """Return sizes, timeouts (ticks) and the mode."""
        return macros(self.options, services, host)

    def plan(self, view: ForwardingView, maps: Mapping[str, BpfMap]) -> MapContent:
        """Return slices and source addresses; what the pinned maps hold is kept."""
        self._planner.leased = self._planner.leased or self.shared
        return self._planner.plan(view, maps)

    def unroutable(self, view: ForwardingView) -> Mapping[int, str]:
        """Return the nodes that got no slice in the last plan."""
        return {n: why for n, why in self._planner.unroutable.items() if n in view.nodes}

    def release_nodes(
        self, addresses: Collection[IPAddress], maps: Mapping[str, BpfMap]
    ) -> Collection[IPAddress]:
        """Give up the slices of nodes that no flow uses; a node with flows keeps all of its."""
        return self._planner.release(addresses, maps)

    def held_services(self, maps: Mapping[str, BpfMap]) -> Collection[int] | None:
        """Return the ids in the keys of all flows."""
        return held_services(maps)

    def components(self, datapath: DataPath, host: HostView) -> Sequence[Component]:
        """Return the sweep of expired flows."""
        del host
        self._sweeper = Sweeper(datapath)
        return [self._sweeper]

    def flow_layout(self, services: Sequence[Service], host: HostView) -> str:
        """Return the format, the mode and the sizes of all tables."""
        return flow_layout(self.options, services, host)

    def former_flows(
        self, former: DataPath, datapath: DataPath, layout: str, view: ForwardingView
    ) -> FlowShare | None:
        """Return how to read the tables of other sizes that an earlier generation left."""
        return former_flows(self.options, former, datapath, layout, view)

    def flow_share(self, datapath: DataPath, host: HostView) -> NatShare:
        """Return how a group shares the flows; from now on it says whether new ones may be made."""
        from galelb_plugins.l4_nat.share import NatShare  # numpy is for groups only

        self._planner.leased = True
        if self._share is None or not self._share.reads(datapath):
            self._share = NatShare(self.options, self._planner, datapath, host)
        return self._share  # with the flows that wait since they came from tables of another size

    def flows(
        self, datapath: DataPath, view: ForwardingView, *, limit: int = 1000
    ) -> Iterator[Flow]:
        """Iterate over the tracked flows; blocks."""
        return FlowReader(datapath, view).flows(limit)

    def flow_count(self) -> int:
        """Return how many flows the last whole sweep saw."""
        return self._sweeper.flow_count() if self._sweeper is not None else 0

    def metrics(self, datapath: DataPath) -> Iterable[Metric]:
        """Return flows by state, ports in use, sweeps; in a group what became of peers' flows."""
        del datapath
        if self._sweeper is not None:
            yield from self._sweeper.metrics()
        if self._share is not None:
            yield from self._share.metrics()
