# SPDX-License-Identifier: Apache-2.0
"""Plans the contents of l4_nat's maps from what they hold and what is wanted."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from galelb_plugins.l4_nat.codec import (
    CLIENT_SOURCE,
    FOR_EVER,
    POOL,
    lease_to_leaf,
    pool_to_leaf,
    slice_from_leaf,
    slice_info,
    slice_key_from_struct,
    slice_key_to_struct,
    slice_to_leaf,
    source_from_leaf,
    source_to_leaf,
)
from galelb_plugins.l4_nat.flows import IdleSlices
from galelb_plugins.l4_nat.layout import FAMILIES, Layout, family_sources, layout
from galelb_plugins.l4_nat.options import L4NatOptions, PortRange
from galelb_plugins.l4_nat.release import give_up_slice, release_nodes
from galelb_plugins.l4_nat.slices import Slice, SliceKey, SlicePlan, WantedSlice, plan_slices
from galelb_plugins.l4_nat.sources import number_sources

from galelb.flowshare import SourceAddress
from galelb.forwarder import BpfMap, ForwardingView, MapContent, PlannedNode
from galelb.model import IPAddress, Service
from galelb.services import acceptor

__all__ = ["Planner"]


class Planner:
    """Keeps slices across plans; `unroutable` is why nodes got none in the last plan.

    `lock` is held while slices are given up: who puts flows into them holds it too. `version`
    rises with each plan. `leased`: whether somebody else says until when flows may be made.
    """

    def __init__(self, options: L4NatOptions) -> None:
        self._options = options
        self._unwanted: frozenset[SliceKey] = frozenset()
        self.unroutable: dict[int, str] = {}
        self.lock = threading.Lock()
        self.version = 0
        self.leased = False
        self.view: ForwardingView | None = None
        """What the last plan was made from."""
        self.own: tuple[SourceAddress, ...] = ()
        """The pool of new flows, of the last plan."""
        self.guests: tuple[SourceAddress, ...] = ()
        """Addresses of other balancers, whose flows shall have room."""
        self.unhoused = 0
        """Slices of guests that the last plan had no room for."""

    def plan(self, view: ForwardingView, maps: Mapping[str, BpfMap]) -> MapContent:
        """Return the contents, and remove from the map the slices that are given up."""
        with self.lock:
            self.version += 1
            self.view = view
            return self._plan(view, maps)

    def release(
        self, addresses: Collection[IPAddress], maps: Mapping[str, BpfMap]
    ) -> tuple[IPAddress, ...]:
        """Give up the slices of nodes that no flow uses; return these nodes."""
        with self.lock:
            self.version += 1
            return release_nodes(addresses, maps)

    def _plan(self, view: ForwardingView, maps: Mapping[str, BpfMap]) -> MapContent:
        services = list(view.services.values())
        sizes = layout(self._options, services, view.host)
        guests = {one.address: one for one in self.guests if one.address not in sizes.ports}
        sources = self._sources(view, services, guests, maps["l4_nat_sources"])
        held = _held_slices(maps["l4_nat_slices"])
        plans = [
            self._plan_family(version, view, sizes, sources, guests, held, maps)
            for version in FAMILIES
        ]
        for released in (key for one in plans for key in one.released):
            give_up_slice(released, held[released], maps)
        self._unwanted = frozenset(key for one in plans for key in one.unwanted)
        self.unroutable = self._reasons(view, plans)
        self.own = tuple(
            SourceAddress(address=address, first_port=first, last_port=last)
            for address, (first, last) in sizes.ports.items()
        )
        self.unhoused = sum(len(one.unhoused) for one in plans)
        return {
            "l4_nat_sources": [(n, source_to_leaf(a)) for n, a in sorted(sources.items())],
            **_slice_content([pair for one in plans for pair in one.slices.items()]),
            "l4_nat_settings": [(0, _settings(sizes, sources))],
            # What an earlier run was permitted is no business of a balancer without a group.
            "l4_nat_lease": [] if self.leased else [(0, lease_to_leaf(FOR_EVER, whole=True))],
        }

    def _sources(
        self,
        view: ForwardingView,
        services: Sequence[Service],
        guests: Collection[IPAddress],
        table: BpfMap,
    ) -> dict[int, IPAddress]:
        wanted = [
            address
            for version in FAMILIES
            for address in family_sources(self._options, services, view.host, version)
        ]
        held = {n: source_from_leaf(leaf) for n, leaf in table.items()}
        return number_sources([*wanted, *guests], {n: a for n, a in held.items() if a is not None})

    def _plan_family(
        self,
        version: int,
        view: ForwardingView,
        sizes: Layout,
        sources: Mapping[int, IPAddress],
        guests: Mapping[IPAddress, SourceAddress],
        held: Mapping[SliceKey, Slice],
        maps: Mapping[str, BpfMap],
    ) -> SlicePlan:
        shape, family = sizes.shapes[version], {}
        if shape.stride:
            family = {
                address: (one.first_port, one.last_port)
                for address, one in guests.items()
                if address.version == version
            }
        return plan_slices(
            self._wanted(version, view, sources, sizes.ports),
            {key: part for key, part in held.items() if key.node.version == version},
            shape,
            reusable=self._unwanted,
            idle=IdleSlices(version, maps),
            guests=self._wanted(version, view, sources, family) if family else {},
        )

    def _wanted(
        self,
        version: int,
        view: ForwardingView,
        sources: Mapping[int, IPAddress],
        ports: Mapping[IPAddress, PortRange],
    ) -> dict[SliceKey, WantedSlice]:
        """Return the slices of these addresses; in dnat there is one instead."""
        pool: list[tuple[int, IPAddress | None]] = [
            (n, a) for n, a in sorted(sources.items()) if a in ports and a.version == version
        ]
        if self._options.mode == "dnat":
            pool = [(CLIENT_SOURCE, None)]
        return {
            SliceKey(
                node=node.address,
                source=address,
                target_port=service.target_port,
                protocol=service.protocol,
            ): _wanted_slice(node, number, address, ports)
            for service, node in _pairs(view, version)
            for number, address in pool
        }

    def _reasons(self, view: ForwardingView, plans: Sequence[SlicePlan]) -> dict[int, str]:
        """Return the nodes for which some service has no slice at all."""
        reachable = {_way(key) for one in plans for key in one.slices}
        return {
            node.index: f"no port slice is left for {node.address} (service {service.name}):"
            f" raise max_slices (now {self._options.max_slices}) in [plugins.l4_nat]"
            for version in FAMILIES
            for service, node in _pairs(view, version)
            if (node.address, service.target_port, service.protocol) not in reachable
        }


def _slice_content(slices: Sequence[tuple[SliceKey, Slice]]) -> dict[str, Any]:
    """Return the slices by id and, only after that, by what packets know."""
    return {
        "l4_nat_slice_ids": [(part.id, slice_info(key, part)) for key, part in slices],
        "l4_nat_slices": [(slice_key_to_struct(key), slice_to_leaf(part)) for key, part in slices],
    }


def _settings(sizes: Layout, sources: Mapping[int, IPAddress]) -> dict[str, Any]:
    """Return the pool for new flows."""
    pools = [
        [n for n, a in sorted(sources.items()) if a in sizes.ports and a.version == version]
        for version in FAMILIES
    ]
    return pool_to_leaf(pools[0][:POOL], pools[1][:POOL])


def _way(key: SliceKey) -> tuple[Any, ...]:
    return key.node, key.target_port, key.protocol


def _wanted_slice(
    node: PlannedNode, number: int, address: IPAddress | None, ports: Mapping[IPAddress, PortRange]
) -> WantedSlice:
    first, last = (1, 0) if address is None else ports[address]
    return WantedSlice(
        node=node.index,
        source_index=number,
        first_port=first if address is not None else 0,
        count=last - first + 1,
    )


def _pairs(view: ForwardingView, version: int) -> Iterator[tuple[Service, PlannedNode]]:
    """Iterate over the ways to nodes, with a service for each.

    Hundreds of services may have the same port at thousands of nodes.
    """
    ways: dict[tuple[Any, ...], Service] = {}
    for _, service in sorted(view.services.items()):
        if service.vip.version == version:
            ways.setdefault((service.target_port, service.protocol, service.nodes), service)
    nodes = [node for _, node in sorted(view.nodes.items())]
    for service in ways.values():
        accepted = acceptor(service)
        for node in nodes:
            if accepted(node.address):
                yield service, node


def _held_slices(table: BpfMap) -> dict[SliceKey, Slice]:
    return {slice_key_from_struct(key): slice_from_leaf(leaf) for key, leaf in table.items()}
