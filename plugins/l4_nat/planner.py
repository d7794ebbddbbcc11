# SPDX-License-Identifier: Apache-2.0
"""Plans the contents of l4_nat's maps from what they hold and what is wanted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from galelb_plugins.l4_nat.codec import (
    CLIENT_SOURCE,
    POOL,
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
from galelb_plugins.l4_nat.options import L4NatOptions
from galelb_plugins.l4_nat.release import give_up_slice
from galelb_plugins.l4_nat.slices import Slice, SliceKey, SlicePlan, WantedSlice, plan_slices
from galelb_plugins.l4_nat.sources import number_sources

from galelb.forwarder import BpfMap, ForwardingView, MapContent, PlannedNode
from galelb.model import IPAddress, Service
from galelb.services import acceptor

__all__ = ["Planner"]


class Planner:
    """Keeps slices across plans; `unroutable` is why nodes got none in the last plan."""

    def __init__(self, options: L4NatOptions) -> None:
        self._options = options
        self._unwanted: frozenset[SliceKey] = frozenset()
        self.unroutable: dict[int, str] = {}

    def plan(self, view: ForwardingView, maps: Mapping[str, BpfMap]) -> MapContent:
        """Return the contents, and remove from the map the slices that are given up."""
        services = list(view.services.values())
        sizes = layout(self._options, services, view.host)
        sources = self._sources(view, services, maps["l4_nat_sources"])
        held = _held_slices(maps["l4_nat_slices"])
        plans = [
            self._plan_family(version, view, sizes, sources, held, maps) for version in FAMILIES
        ]
        for released in (key for one in plans for key in one.released):
            give_up_slice(released, held[released], maps)
        self._unwanted = frozenset(key for one in plans for key in one.unwanted)
        self.unroutable = self._reasons(view, plans)
        return {
            "l4_nat_sources": [(n, source_to_leaf(a)) for n, a in sorted(sources.items())],
            **_slice_content([pair for one in plans for pair in one.slices.items()]),
            "l4_nat_settings": [(0, _settings(sizes, sources, maps["l4_nat_settings"]))],
        }

    def _sources(
        self, view: ForwardingView, services: Sequence[Service], table: BpfMap
    ) -> dict[int, IPAddress]:
        wanted = [
            address
            for version in FAMILIES
            for address in family_sources(self._options, services, view.host, version)
        ]
        held = {n: source_from_leaf(leaf) for n, leaf in table.items()}
        return number_sources(wanted, {n: a for n, a in held.items() if a is not None})

    def _plan_family(
        self,
        version: int,
        view: ForwardingView,
        sizes: Layout,
        sources: Mapping[int, IPAddress],
        held: Mapping[SliceKey, Slice],
        maps: Mapping[str, BpfMap],
    ) -> SlicePlan:
        return plan_slices(
            self._wanted(version, view, sizes, sources),
            {key: part for key, part in held.items() if key.node.version == version},
            sizes.shapes[version],
            reusable=self._unwanted,
            idle=IdleSlices(version, maps),
        )

    def _wanted(
        self,
        version: int,
        view: ForwardingView,
        sizes: Layout,
        sources: Mapping[int, IPAddress],
    ) -> dict[SliceKey, WantedSlice]:
        pool: list[tuple[int, IPAddress | None]] = [
            (n, a) for n, a in sorted(sources.items()) if a in sizes.ports and a.version == version
        ]
        if self._options.mode == "dnat":
            pool = [(CLIENT_SOURCE, None)]
        return {
            SliceKey(
                node=node.address,
                source=address,
                target_port=service.target_port,
                protocol=service.protocol,
            ): _wanted_slice(node, number, address, sizes)
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


def _settings(sizes: Layout, sources: Mapping[int, IPAddress], table: BpfMap) -> dict[str, Any]:
    """Return the pool for new flows; the flags are somebody else's and stay."""
    held = table.get(0)
    pools = [
        [n for n, a in sorted(sources.items()) if a in sizes.ports and a.version == version]
        for version in FAMILIES
    ]
    return pool_to_leaf(held["flags"] if held else 0, pools[0][:POOL], pools[1][:POOL])


def _way(key: SliceKey) -> tuple[Any, ...]:
    return key.node, key.target_port, key.protocol


def _wanted_slice(
    node: PlannedNode, number: int, address: IPAddress | None, sizes: Layout
) -> WantedSlice:
    first, last = (1, 0) if address is None else sizes.ports[address]
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
