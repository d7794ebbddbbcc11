# SPDX-License-Identifier: Apache-2.0
"""Lookup tables as values: identity, digest, packed form, and where they lie in gale_slots."""

from __future__ import annotations

import hashlib
import struct
from array import array
from collections.abc import Iterable, Sequence

import attrs

from galelb.errors import GaleError

__all__ = [
    "SLOTS_PER_ELEMENT",
    "Region",
    "SlotSpace",
    "TableSpec",
    "digest",
    "moved",
    "pack",
    "slots_needed",
]

SLOTS_PER_ELEMENT = 4
"""An element of gale_slots is 8 bytes and holds four node indices."""


def _by_address(nodes: Iterable[tuple[str, float]]) -> tuple[tuple[str, float], ...]:
    return tuple(sorted(nodes))


@attrs.frozen(kw_only=True)
class TableSpec:
    """All that decides a lookup table; `nodes` are kept sorted, so their order never matters."""

    nodes: tuple[tuple[str, float], ...] = attrs.field(converter=_by_address)
    size: int
    seed: int
    scheduler: str
    """Its name and options, as text."""

    digest: str = attrs.field(init=False, eq=False, repr=False)
    """A short text that two specs share only if they are equal."""

    @digest.default
    def _make_digest(self) -> str:
        parts = [self.scheduler, str(self.size), str(self.seed)]
        parts += [f"{address}*{weight:.10g}" for address, weight in self.nodes]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    @property
    def addresses(self) -> tuple[str, ...]:
        """The nodes' addresses; a slot of the built table is a position in here."""
        return tuple(address for address, _ in self.nodes)


def digest(table: Sequence[int], addresses: Sequence[str]) -> str:
    """Return a digest over (slot -> node address): equal on balancers that agree.

    `table` holds positions in `addresses`; indices that only one balancer knows do not matter.
    """
    ranks = {address: rank for rank, address in enumerate(sorted(addresses))}
    rank_of = [ranks[address] for address in addresses]
    hasher = hashlib.sha256("\n".join(sorted(addresses)).encode())
    hasher.update(struct.pack(f"<{len(table)}I", *[rank_of[position] for position in table]))
    return hasher.hexdigest()[:16]


def moved(old: Sequence[str], new: Sequence[str]) -> float:
    """Return the share (0 to 1) of slots that name another node than before.

    Both hold what each slot names, for example addresses. Tables of another size, or no table
    before, count as moved altogether; no table before and after as not moved.
    """
    if not old and not new:
        return 0.0
    if len(old) != len(new):
        return 1.0
    return sum(a != b for a, b in zip(old, new, strict=True)) / len(new)


def pack(table: Sequence[int], index_of: Sequence[int]) -> bytes:
    """Return the table as gale_slots holds it: node indices as u16, padded to whole elements.

    `index_of[position]` is the node index (1 to 65535) of a position in the table. The padding
    says "no node" and is never read.
    """
    content = array("H", [index_of[position] for position in table])
    content.extend([0] * (-len(content) % SLOTS_PER_ELEMENT))
    return content.tobytes()


def slots_needed(size: int, tables: int) -> int:
    """Return how many elements gale_slots needs to hold `tables` tables of `size` slots."""
    return _elements(size) * tables


def _elements(size: int) -> int:
    return -(-size // SLOTS_PER_ELEMENT)


@attrs.frozen(kw_only=True)
class Region:
    """A run of elements of gale_slots; `first` is what gale_service.table holds."""

    first: int
    elements: int

    @property
    def end(self) -> int:
        """The element after the last one."""
        return self.first + self.elements

    @property
    def byte_offset(self) -> int:
        """Where the region starts in the mmapped array."""
        return self.first * 2 * SLOTS_PER_ELEMENT


@attrs.define
class _Held:
    region: Region
    users: int
    free_at: float = 0.0
    """When the region may be reused; counts once there are no users."""


class SlotSpace:
    """Hands out regions of gale_slots; services whose tables have the same key share one.

    A key is a spec's digest. Times are seconds of the caller's monotonic clock. A region
    without users is kept for `grace_s`, since programs may still be reading it; whoever asks
    for its key meanwhile gets it back with its content.
    """

    def __init__(self, elements: int, *, grace_s: float = 1.0) -> None:
        self.elements = elements
        self.grace_s = grace_s
        self._held: dict[str, _Held] = {}

    def acquire(self, key: str, size: int, now: float) -> tuple[Region, bool]:
        """Return the region for a table of `size` slots and whether it must be written first.

        Each call must be matched by one `release`. Raises GaleError when nothing is free.
        """
        self._collect(now)
        held = self._held.get(key)
        if held is not None:
            held.users += 1
            return held.region, False
        region = Region(first=self._find(_elements(size), now), elements=_elements(size))
        self._held[key] = _Held(region, users=1)
        return region, True

    def adopt(self, key: str, first: int, size: int) -> Region:
        """Take up a region that an earlier run of the balancer filled; release it like others.

        Adopting the same key again adds a user. Raises GaleError if it overlaps another or
        lies outside.
        """
        region = Region(first=first, elements=_elements(size))
        held = self._held.get(key)
        if held is not None and held.region == region:
            held.users += 1
            return region
        taken = any(_overlap(region, other.region) for other in self._held.values())
        if held is not None or taken or first < 0 or region.end > self.elements:
            raise GaleError(
                f"lookup table {key} at element {first} cannot be adopted: it overlaps another; "
                "it is built anew"
            )
        self._held[key] = _Held(region, users=1)
        return region

    def release(self, key: str, now: float, *, written: bool = True) -> None:
        """Give up one use; the last one starts the grace time. Raises KeyError if not held.

        A region that was never `written` is forgotten at once, as nobody may get it so.
        """
        held = self._held[key]
        if held.users == 0:
            raise KeyError(key)
        held.users -= 1
        held.free_at = now + self.grace_s
        if not written:
            del self._held[key]

    def region(self, key: str) -> Region | None:
        """Return the region of a key that has users, or None."""
        held = self._held.get(key)
        return held.region if held is not None and held.users else None

    def room_for(self, size: int) -> bool:
        """Return whether as much is free as a table of `size` slots takes."""
        return self.elements - self.used() >= _elements(size)

    def used(self) -> int:
        """Return how many elements are held, those in their grace time included."""
        return sum(held.region.elements for held in self._held.values())

    def _collect(self, now: float) -> None:
        """Forget regions whose grace is over; `acquire` can then use their elements."""
        over = [key for key, held in self._held.items() if not held.users and held.free_at <= now]
        for key in over:
            del self._held[key]

    def _find(self, elements: int, now: float) -> int:
        """Return the first element of the lowest gap that is large enough."""
        start = 0
        for region in sorted((h.region for h in self._held.values()), key=lambda r: r.first):
            if region.first - start >= elements:
                return start
            start = region.end
        if self.elements - start >= elements:
            return start
        waiting = [h.free_at - now for h in self._held.values() if not h.users]
        hint = (
            f"a replaced table frees its place in {min(waiting):.1f} s"
            if waiting
            else ("use fewer different sets of nodes, or a smaller forwarding.table_size")
        )
        raise GaleError(
            f"no room for a lookup table of {elements} elements: "
            f"{self.used()} of {self.elements} are in use; {hint}"
        )


def _overlap(one: Region, other: Region) -> bool:
    return one.first < other.end and other.first < one.end
