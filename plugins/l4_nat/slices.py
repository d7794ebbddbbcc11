# SPDX-License-Identifier: Apache-2.0
"""Who may use which source ports: slices of the port array, allocated once and kept.

A slice holds one slot per source port for one combination of node, source address, target port
and protocol. Programs hold ids and positions of slices, so a slice never moves: what the pinned
map already holds is kept, and an unwanted one is given up only when its space is needed and no
flow uses it. No I/O here: the plugin reads and writes the maps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet

import attrs

from galelb.model import IPAddress, Protocol

__all__ = ["Shape", "Slice", "SliceKey", "SlicePlan", "WantedSlice", "plan_slices"]


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
    """The space of one family: ids `first_id` and up, `slices` of them, `stride` slots each."""

    first_id: int
    slices: int
    stride: int

    def base(self, slice_id: int) -> int:
        """Return the first slot of a slice."""
        return (slice_id - self.first_id) * self.stride

    def fits(self, held: Slice) -> bool:
        """Whether a slice found in the map was allocated in a space of this shape."""
        inside = self.first_id <= held.id < self.first_id + self.slices
        return inside and held.base == self.base(held.id) and held.count <= self.stride


@attrs.frozen(kw_only=True)
class SlicePlan:
    """All slices to hold, those to remove from the map, and the combinations without space."""

    slices: Mapping[SliceKey, Slice]
    released: Sequence[SliceKey]
    unwanted: AbstractSet[SliceKey]
    exhausted: Sequence[SliceKey]


def plan_slices(
    wanted: Mapping[SliceKey, WantedSlice],
    held: Mapping[SliceKey, Slice],
    shape: Shape,
    *,
    reusable: AbstractSet[SliceKey],
    idle: Callable[[Slice], bool],
) -> SlicePlan:
    """Return the slices of one family.

    `reusable` are unwanted combinations that may be given up when space is short and `idle`
    says that no flow uses them: those of the last plan, because a packet that was under way
    when a node went may still claim a port in its slice.
    """
    planner = _Planner(held, shape, idle)
    new = [key for key, want in wanted.items() if not planner.keep(key, want)]
    candidates = [key for key in held if key not in wanted and key in reusable]
    exhausted = [key for key in new if not planner.allocate(key, wanted[key], candidates)]
    return SlicePlan(
        slices=planner.slices,
        released=planner.released,
        unwanted=frozenset(planner.slices) - frozenset(wanted),
        exhausted=exhausted,
    )


class _Planner:
    def __init__(
        self, held: Mapping[SliceKey, Slice], shape: Shape, idle: Callable[[Slice], bool]
    ) -> None:
        self.slices = {key: part for key, part in held.items() if shape.fits(part)}
        self.released = [key for key, part in held.items() if not shape.fits(part)]
        self._shape = shape
        self._idle = idle
        used = {part.id for part in self.slices.values()}
        ids = range(shape.first_id, shape.first_id + shape.slices)
        self._free = iter([number for number in ids if number not in used])

    def keep(self, key: SliceKey, want: WantedSlice) -> bool:
        """Keep a held slice where it is; its ports change only while no flow uses it."""
        held = self.slices.get(key)
        if held is None:
            return False
        changed = (held.first_port, held.count) != (want.first_port, want.count)
        if changed and self._idle(held):
            held = attrs.evolve(held, first_port=want.first_port, count=want.count)
        self.slices[key] = attrs.evolve(held, node=want.node, source_index=want.source_index)
        return True

    def allocate(self, key: SliceKey, want: WantedSlice, candidates: list[SliceKey]) -> bool:
        number = next(self._free, None)
        if number is None:
            number = self._give_up_one(candidates)
        if number is None:
            return False
        self.slices[key] = Slice(id=number, base=self._shape.base(number), **attrs.asdict(want))
        if key in self.released:
            self.released.remove(key)
        return True

    def _give_up_one(self, candidates: list[SliceKey]) -> int | None:
        while candidates:
            key = candidates.pop(0)
            held = self.slices.get(key)
            if held is not None and self._idle(held):
                del self.slices[key]
                self.released.append(key)
                return held.id
        return None
