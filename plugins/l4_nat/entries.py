# SPDX-License-Identifier: Apache-2.0
"""Reads l4_nat's tables through mmap, beside the programs that change them (see tables.h)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

import attrs

from galelb.forwarder import BpfMap
from galelb.model import IPAddress

__all__ = [
    "CLOSED",
    "DOWN_SEEN",
    "FIN",
    "RST",
    "SEEN",
    "TCP",
    "USED",
    "Entry",
    "EntryTable",
    "any_port",
]

BUSY = 1
USED = 1 << 48
_QUADS = {4: 2, 6: 4}
"""Parts of 8 bytes that an entry has; the last is its word."""
SEEN, FIN, RST, TCP, DOWN_SEEN, SYN, CLOSED = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40


@attrs.frozen
class Entry:
    """One entry of a forward or return table, or a port slot.

    `first` and `second` are the upper 16-bit fields of the word: slice and source port in a
    forward table, service and client next hop elsewhere. `id` is the last part of the key.
    """

    client: IPAddress
    client_port: int
    id: int
    word: int

    @property
    def first(self) -> int:
        """Bits 48 and up of the word."""
        return self.word >> 48

    @property
    def second(self) -> int:
        """Bits 32 to 47 of the word."""
        return self.word >> 32 & 0xFFFF

    @property
    def state(self) -> int:
        """State bits: what this side has sent."""
        return self.word >> 16 & 0xFF

    @property
    def age(self) -> int:
        """The tick of this side's last packet."""
        return self.word & 0xFFFF


class EntryTable:
    """A BPF array of entries (16 bytes in IPv4, 32 in IPv6), mapped for as long as this lives."""

    def __init__(self, table: BpfMap, version: int) -> None:
        self._quads = _QUADS[version]
        self._version = version
        self._data = memoryview(table.mmap()).cast("Q")

    def words(self, first: int, count: int) -> list[int]:
        """Return the words of `count` entries from index `first`."""
        start, end = first * self._quads, (first + count) * self._quads
        return self._data[start:end][self._quads - 1 :: self._quads].tolist()

    def entry(self, index: int) -> Entry | None:
        """Return an entry in use, or None; one that changes owner meanwhile is None as well."""
        at = index * self._quads
        word = self._data[at + self._quads - 1]
        if word < USED:
            return None
        keys = self._data[at : at + self._quads - 1].tolist()
        if self._data[at + self._quads - 1] >> 32 != word >> 32:
            return None
        return self._decode(keys, word)

    def used(self, *, step: int = 1 << 15) -> Iterator[tuple[int, Entry]]:
        """Iterate over the entries in use, with their indices."""
        total = len(self._data) // self._quads
        for first in range(0, total, step):
            words = self.words(first, min(step, total - first))
            for index in (first + n for n, word in enumerate(words) if word >= USED):
                entry = self.entry(index)
                if entry is not None:
                    yield index, entry

    def _decode(self, keys: list[int], word: int) -> Entry:
        if self._version == 4:
            packed = (keys[0] >> 32).to_bytes(4, sys.byteorder)
            return Entry(IPv4Address(packed), keys[0] >> 16 & 0xFFFF, keys[0] & 0xFFFF, word)
        packed = b"".join(part.to_bytes(8, sys.byteorder) for part in keys[:2])
        return Entry(IPv6Address(packed), keys[2] >> 16 & 0xFFFF, keys[2] & 0xFFFF, word)


def any_port(ports: BpfMap, version: int, first: int, count: int) -> bool:
    """Return whether any of `count` port slots from index `first` is in use or in quarantine.

    Maps those only: the slots of all nodes are tens of megabytes.
    """
    quads = _QUADS[version]
    with ports.mapped(first, count) as part, part.cast("Q") as data:
        return any(data[quads - 1 :: quads].tolist())
