# SPDX-License-Identifier: Apache-2.0
"""What flows still hold of nodes and services that are gone, and giving back what they do not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping

from galelb_plugins.l4_nat.codec import (
    NO_SLICE,
    slice_from_leaf,
    slice_key_from_struct,
    slice_key_to_struct,
)
from galelb_plugins.l4_nat.entries import EntryTable
from galelb_plugins.l4_nat.flows import IdleSlices
from galelb_plugins.l4_nat.layout import FAMILIES
from galelb_plugins.l4_nat.slices import Slice, SliceKey

from galelb.forwarder import BpfMap
from galelb.model import IPAddress

__all__ = ["give_up_slice", "held_services", "release_nodes"]


def release_nodes(
    addresses: Collection[IPAddress], maps: Mapping[str, BpfMap]
) -> tuple[IPAddress, ...]:
    """Remove the slices of nodes all of whose slices are idle; return these nodes."""
    wanted = frozenset(addresses)
    held: dict[IPAddress, list[tuple[SliceKey, Slice]]] = defaultdict(list)
    for struct, leaf in maps["l4_nat_slices"].items():
        key = slice_key_from_struct(struct)
        if key.node in wanted:
            held[key.node].append((key, slice_from_leaf(leaf)))
    idle = {version: IdleSlices(version, maps) for version in FAMILIES}
    released = tuple(
        address
        for address in addresses
        if all(idle[address.version](part) for _, part in held[address])
    )
    for address in released:
        for key, part in held[address]:
            give_up_slice(key, part, maps)
    return released


def give_up_slice(key: SliceKey, part: Slice, maps: Mapping[str, BpfMap]) -> None:
    """Remove a slice that no flow uses: programs find it neither by key nor by id any more."""
    maps["l4_nat_slices"].delete(slice_key_to_struct(key))
    maps["l4_nat_slice_ids"].set(part.id, NO_SLICE)


def held_services(maps: Mapping[str, BpfMap]) -> frozenset[int]:
    """Return the ids of services in the tables of flows."""
    tables = [
        EntryTable(maps[f"l4_nat_flows{version}"], version)
        for version in FAMILIES
        if f"l4_nat_flows{version}" in maps
    ]
    return frozenset(entry.id for table in tables for _, entry in table.used())
