# SPDX-License-Identifier: Apache-2.0
"""Counts the flows of l4_nat's tables (full_nat), whole columns at a time, and finds faults."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
from galelb_plugins.l4_nat.codec import slice_from_leaf
from galelb_plugins.l4_nat.entries import USED

from galelb.forwarder import BpfMap

__all__ = ["Census", "census"]

_QUADS = {4: 2, 6: 4}


@attrs.frozen(kw_only=True)
class Census:
    """Flows, and what must be none.

    `doubled_keys`: entries of a client's port that has another one; `doubled_ports`: ports that two
    flows hold; `crossed`: flows whose port is another client's; `orphans`: ports without a flow.
    """

    flows: int
    doubled_keys: int
    doubled_ports: int
    crossed: int
    orphans: int

    @property
    def whole(self) -> bool:
        """Whether flows and ports agree one to one."""
        return not (self.doubled_keys or self.doubled_ports or self.crossed or self.orphans)


def census(maps: Mapping[str, BpfMap], version: int) -> Census:
    """Count the flows of one family while no packet changes any; takes seconds for a million."""
    places = {
        part.id: part.base - part.first_port
        for part in (slice_from_leaf(leaf) for _, leaf in maps["l4_nat_slices"].items())
    }
    forward, slots = (_Columns(maps[f"l4_nat_{name}{version}"], version) for name in _TABLES)
    used = [(key, word) for key, word in forward.entries() if word >= USED]
    held = [places[word >> 48] + (word >> 32 & 0xFFFF) for _, word in used]
    clients = [key for key, _ in used]
    ports = {place: key for place, (key, word) in enumerate(slots.entries()) if word >= USED}
    return Census(
        flows=len(used),
        doubled_keys=len(used) - len(set(clients)),
        doubled_ports=len(held) - len(set(held)),
        crossed=sum(ports.get(place) != key for place, key in zip(held, clients, strict=True)),
        orphans=len(ports.keys() - set(held)),
    )


_TABLES = ("flows", "ports")


class _Columns:
    """A mapped table: each entry is a key of one or three numbers, and a word."""

    def __init__(self, table: BpfMap, version: int) -> None:
        quads = _QUADS[version]
        data = memoryview(table.mmap()).cast("Q")[: table.max_entries * quads * _bucket(table)]
        self._columns = [data[at::quads] for at in range(quads)]

    def entries(self) -> zip[tuple[tuple[int, ...], int]]:
        """Iterate over keys and words."""
        *keys, words = (column.tolist() for column in self._columns)
        return zip(zip(*keys, strict=True), words, strict=True)


def _bucket(table: BpfMap) -> int:
    """Return how many entries an element of a table holds."""
    return 4 if "flows" in table.name else 1
