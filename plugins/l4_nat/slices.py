# SPDX-License-Identifier: Apache-2.0
"""Who may use which source ports: slices of the port array, allocated once and kept.

A slice holds one slot per source port for one combination of node, source address, target port
and protocol. The array never grows: when there are many combinations, slices have fewer ports.
Programs hold ids and positions of slices, so a slice never moves: what the pinned map already
holds is kept, and an unwanted one is given up only when its space is needed and no flow uses it.
No I/O here: the plugin reads and writes the maps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet

import attrs

from galelb.model import IPAddress, Protocol

__all__ = ["Shape", "Slice", "SliceKey", "SlicePlan", "WantedSlice", "plan_slices"]


PARTS = 16
"""A block of the port array holds at most so many slices."""

FEWEST = 256
"""No slice has fewer ports, unless there are no more."""

MAX_IDS = 32767
"""Slices per family: ids of both families have 16 bits."""

ROOMY = 0.75
"""Slices get smaller when more of the space than this were taken."""


@attrs.frozen(kw_only=True)
class SliceKey:
    """What a source port is unique in; `source` is None in dnat, where clients keep theirs."""

    node: IPAddress
    source: IPAddress | None
    target_port: int
    protocol: Protocol


@attrs.frozen(kw_only=True)
class Slice:
    """A place in the port array: `count` slots from `base`, the first one for `first_port`."""

    id: int
    base: int
    first_port: int
    count: int
    node: int
    source_index: int


@attrs.frozen(kw_only=True)
class WantedSlice:
    """What a combination needs: the node's and source's index, and its ports."""

    node: int
    source_index: int
    first_port: int
    count: int


@attrs.frozen(kw_only=True)
class Shape:
    """The space of one family: `slices` blocks of `stride` slots each; ids are `first_id` and up.

    When there are more combinations than blocks, slices are smaller: a block is divided into up
    to `PARTS` units, and a slice has a power of two of them, at a multiple of that.
    """

    first_id: int
    slices: int
    stride: int

    @property
    def parts(self) -> int:
        """Units of a block: none has fewer ports than `FEWEST`. In dnat there are no ports."""
        parts = PARTS
        while self.stride and parts > 1 and self.stride // parts < FEWEST:
            parts //= 2
        return parts

    @property
    def ids(self) -> int:
        """How many slices there can be at most."""
        return min(self.slices * self.parts, MAX_IDS)

    @property
    def _unit(self) -> int:
        return self.stride // self.parts

    def units(self, count: int) -> int:
        """Return how many units so many ports need."""
        units = 1
        while units < self.parts and units * self._unit < count:
            units *= 2
        return units

    def room(self, units: int) -> int:
        """Return the ports of so many units; a whole block has what division leaves over, too."""
        return self.stride if units == self.parts else units * self._unit

    def base(self, place: int) -> int:
        """Return the first slot of a unit."""
        block, unit = divmod(place, self.parts)
        return block * self.stride + unit * self._unit

    def places(self, held: Slice) -> range:
        """Return the units of a slice."""
        if not held.count:
            return range(0)
        block, offset = divmod(held.base, self.stride)
        first = block * self.parts + offset // self._unit
        return range(first, first + self.units(held.count))

    def fits(self, held: Slice) -> bool:
        """Whether a slice found in the map was allocated in a space of this shape."""
        if not self.first_id <= held.id < self.first_id + self.ids or held.count > self.stride:
            return False
        if not held.count or not self.stride:
            return held.count == held.base == 0
        places = self.places(held)
        inside = places.stop <= self.slices * self.parts and places.start % len(places) == 0
        return inside and held.base == self.base(places.start)


@attrs.frozen(kw_only=True)
class SlicePlan:
    """All slices to hold, those to remove from the map, and the combinations without space."""

    slices: Mapping[SliceKey, Slice]
    released: Sequence[SliceKey]
    unwanted: AbstractSet[SliceKey]
    exhausted: Sequence[SliceKey]
    unhoused: Sequence[SliceKey] = ()
    """Guests without space."""


def plan_slices(
    wanted: Mapping[SliceKey, WantedSlice],
    held: Mapping[SliceKey, Slice],
    shape: Shape,
    *,
    reusable: AbstractSet[SliceKey],
    idle: Callable[[Slice], bool],
    guests: Mapping[SliceKey, WantedSlice] | None = None,
) -> SlicePlan:
    """Return the slices of one family.

    `guests` are those of other balancers' addresses, for the flows that these share. They get what
    is left, and no more than `ROOMY` of the space, and give way to wanted ones as long as they are
    idle. All slices are of one size, so that balancers with the same settings have the same.

    `reusable` are unwanted combinations that may be given up when space is short and `idle`
    says that no flow uses them: those of the last plan, because a packet that was under way
    when a node went may still claim a port in its slice.
    """
    others = guests or {}
    planner = _Planner(held, shape, idle, _share(len(wanted) + len(others), shape))
    new = [key for key, want in wanted.items() if not planner.keep(key, want)]
    late = [key for key, want in others.items() if not planner.keep(key, want)]
    spare = [key for key in held if key not in wanted and key not in others and key in reusable]
    candidates = [*spare, *(key for key in held if key in others)]
    exhausted = [key for key in new if not planner.allocate(key, wanted[key], candidates)]
    for key in late:
        if not planner.crowded:
            planner.allocate(key, others[key], spare)
    return SlicePlan(
        slices=planner.slices,
        released=planner.released,
        unwanted=frozenset(planner.slices) - frozenset(wanted) - frozenset(others),
        exhausted=exhausted,
        unhoused=[key for key in others if key not in planner.slices],
    )


def _share(wanted: int, shape: Shape) -> int:
    """Return the units of a slice when so many are wanted, with room for some more."""
    units = shape.parts
    while units > 1 and wanted * units > shape.slices * shape.parts * ROOMY:
        units //= 2
    return units


class _Planner:
    def __init__(
        self,
        held: Mapping[SliceKey, Slice],
        shape: Shape,
        idle: Callable[[Slice], bool],
        share: int,
    ) -> None:
        self.slices = {key: part for key, part in held.items() if shape.fits(part)}
        self.released = [key for key, part in held.items() if not shape.fits(part)]
        self._shape = shape
        self._idle = idle
        self._share = share
        self._taken = {place for part in self.slices.values() for place in shape.places(part)}
        used = {part.id for part in self.slices.values()}
        ids = range(shape.first_id, shape.first_id + shape.ids)
        self._ids = [number for number in reversed(ids) if number not in used]

    @property
    def crowded(self) -> bool:
        """Whether so much space is taken that guests get none."""
        return len(self._taken) + self._share > self._shape.slices * self._shape.parts * ROOMY

    def keep(self, key: SliceKey, want: WantedSlice) -> bool:
        """Keep a held slice where it is; its ports change only while no flow uses it."""
        held = self.slices.get(key)
        if held is None:
            return False
        count = min(want.count, self._shape.room(self._size(held, want)))
        changed = (held.first_port, held.count) != (want.first_port, count)
        if changed and self._idle(attrs.evolve(held, count=max(held.count, count))):
            self._taken.difference_update(self._shape.places(held))
            held = attrs.evolve(held, first_port=want.first_port, count=count)
            self._taken.update(self._shape.places(held))
        self.slices[key] = attrs.evolve(held, node=want.node, source_index=want.source_index)
        return True

    def _size(self, held: Slice, want: WantedSlice) -> int:
        """Return the units that a held slice shall have: more only where they are free."""
        units, places = self._wanted_units(want), self._shape.places(held)
        more = range(places.stop, places.start + units)
        if places.start % units or any(place in self._taken for place in more):
            return max(1, len(places))
        return units

    def _wanted_units(self, want: WantedSlice) -> int:
        return min(self._share, self._shape.units(want.count))

    def allocate(self, key: SliceKey, want: WantedSlice, candidates: list[SliceKey]) -> bool:
        units = self._wanted_units(want)
        found = self._find(want, units)
        while found is None and self._give_up_one(candidates):
            found = self._find(want, units)
        while found is None and units > 1:
            units //= 2
            found = self._find(want, units)
        if found is None:
            return False
        self._ids.pop()
        self._taken.update(self._shape.places(found))
        self.slices[key] = found
        if key in self.released:
            self.released.remove(key)
        return True

    def _find(self, want: WantedSlice, units: int) -> Slice | None:
        """Return a new slice of so many units where nothing is used, or None."""
        if not self._ids:
            return None
        new = Slice(id=self._ids[-1], base=0, **attrs.asdict(want))
        if not want.count:
            return new
        new = attrs.evolve(new, count=min(want.count, self._shape.room(units)))
        for place in range(0, self._shape.slices * self._shape.parts, units):
            if self._taken.isdisjoint(range(place, place + units)):
                new = attrs.evolve(new, base=self._shape.base(place))
                if self._idle(new):  # nothing is left of a larger slice that began or ended here
                    return new
        return None

    def _give_up_one(self, candidates: list[SliceKey]) -> bool:
        while candidates:
            key = candidates.pop(0)
            held = self.slices.get(key)
            if held is not None and self._idle(held):
                del self.slices[key]
                self.released.append(key)
                self._ids.append(held.id)
                self._taken.difference_update(self._shape.places(held))
                return True
        return False
