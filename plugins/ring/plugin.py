# SPDX-License-Identifier: Apache-2.0
"""The scheduler ring: a consistent ring that gives every node exactly its weight's share.

A slot lies at its place on the ring and belongs to the node of the next virtual node. Left at
that, shares would be as uneven as chance makes them (4 % with 512 virtual nodes), so the loads
are bounded, as in Mirrokni, Thorup and Zadimoghaddam, "Consistent Hashing with Bounded Loads"
(2016): a node that got more slots than its share keeps those next to its virtual nodes, and the
others go on to the next virtual node of a node that has room.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from galelb_plugins.ring.points import NODE_BITS, points
from galelb_plugins.ring.quotas import quotas
from pydantic import Field

from galelb.forwarder import Options
from galelb.sources import Scheduler

__all__ = ["Ring", "RingOptions", "build_table"]

_ROUND = 1 << 32
"""Places on the ring are CRC-32 values."""
_NODE = (1 << NODE_BITS) - 1
_HEAVIEST = 4
"""Virtual nodes grow with the weight up to this weight; bounding the loads does the rest."""


class RingOptions(Options):
    """Settings of the ring."""

    virtual_nodes: Annotated[int, Field(ge=16, le=2048)] = Field(
        512, json_schema_extra={"shared": True}
    )
    """Places of a node on the ring, times its weight up to 4: more move less, but take longer"""


class Ring(Scheduler):
    """A consistent ring: CRC-32, virtual nodes, bounded loads (see README.md)."""

    name = "ring"
    Options = RingOptions

    def build(self, nodes: Sequence[tuple[str, float]], size: int, seed: int) -> list[int]:
        """Return `size` slots, each a position in `nodes`; see `build_table`."""
        return build_table(nodes, size, seed, self.options.virtual_nodes)


def build_table(
    nodes: Sequence[tuple[str, float]], size: int, seed: int, virtual_nodes: int
) -> list[int]:
    """Return the table: `size` slots, each a position in `nodes` ((address, weight) pairs).

    The address that a slot names depends on the set of pairs and the other arguments only.
    Raises ValueError for no nodes, more nodes than slots, a weight that is not above 0, or an
    address given twice.
    """
    # In the order of the addresses, so that two points at one place have an order, too.
    order = sorted(range(len(nodes)), key=lambda position: nodes[position][0])
    room = quotas([nodes[position] for position in order], size)
    ring: list[int] = []
    for node, position in enumerate(order):
        address, weight = nodes[position]
        ring += points(address, _places(virtual_nodes, weight), seed, node)
    ring.sort()
    table = [-1] * size
    free: Sequence[int] = range(size)
    while free:
        free = _place(table, free, ring, room)
        if free:
            ring = [point for point in ring if room[point & _NODE]]
    return [order[node] for node in table]


def _places(virtual_nodes: int, weight: float) -> int:
    return max(1, round(virtual_nodes * min(weight, _HEAVIEST)))


def _place(
    table: list[int], free: Sequence[int], ring: Sequence[int], room: list[int]
) -> list[int]:
    """Give free slots, which ascend, to the next nodes with room; return those left over."""
    left: list[int] = []
    for node, offers in enumerate(_offers(free, ring, len(table), len(room))):
        if len(offers) > room[node]:
            offers.sort()
            left += [offer[1] for offer in offers[room[node] :]]
            del offers[room[node] :]
        for _, slot in offers:
            table[slot] = node
        room[node] -= len(offers)
    left.sort()
    return left


def _offers(
    free: Sequence[int], ring: Sequence[int], size: int, nodes: int
) -> list[list[tuple[int, int]]]:
    """Return for each node (way from the slot to its virtual node, slot) of what it may take."""
    offers: list[list[tuple[int, int]]] = [[] for _ in range(nodes)]
    places = [point >> NODE_BITS for point in ring]
    owners = [point & _NODE for point in ring]
    # After the last point comes the first one again.
    places.append(places[0] + _ROUND)
    owners.append(owners[0])
    nearest = 0
    place = places[0]
    for slot in free:
        at = slot * _ROUND // size
        while place < at:
            nearest += 1
            place = places[nearest]
        offers[owners[nearest]].append((place - at, slot))
    return offers
