# SPDX-License-Identifier: Apache-2.0
"""Maps in memory for tests without a kernel; tests/bpf runs the same contract on real ones."""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from galelb.errors import MapError

__all__ = ["FakeMap"]


class FakeMap:
    """A hash or array map with the behaviour of `galelb.forwarder.BpfMap`.

    `leaf_size` makes it an mmapable array. `writes` counts entries written.
    """

    def __init__(self, name: str, max_entries: int = 1024, *, leaf_size: int = 0) -> None:
        self.name = name
        self.max_entries = max_entries
        self.writes = 0
        self._entries: dict[str, tuple[Any, Any]] = {}
        self._stride = -(-leaf_size // 8) * 8
        self._memory = mmap.mmap(-1, max_entries * self._stride) if leaf_size else None

    def get(self, key: Any) -> Any | None:
        """Return the leaf, or None."""
        entry = self._entries.get(repr(key))
        return entry[1] if entry else None

    def set(self, key: Any, leaf: Any) -> None:
        """Write one entry; a full map refuses a new key."""
        if repr(key) not in self._entries and len(self._entries) >= self.max_entries:
            raise MapError(self.name, "set", "the map is full")
        self._entries[repr(key)] = (key, leaf)
        self.writes += 1

    def update(self, entries: Mapping[Any, Any] | Iterable[tuple[Any, Any]]) -> None:
        """Write many entries."""
        for key, leaf in entries.items() if isinstance(entries, Mapping) else entries:
            self.set(key, leaf)

    def delete(self, key: Any) -> None:
        """Remove an entry; absent is fine."""
        self._entries.pop(repr(key), None)

    def items(self) -> Iterator[tuple[Any, Any]]:
        """Iterate over all entries."""
        return iter(list(self._entries.values()))

    def mmap(self) -> mmap.mmap:
        """Return the memory of an mmapable array."""
        if self._memory is None:
            raise MapError(self.name, "mmap", "it is no BPF_F_MMAPABLE array")
        return self._memory

    @contextlib.contextmanager
    def mapped(self, first: int, count: int) -> Iterator[memoryview]:
        """Give the memory of some elements of an mmapable array until the block ends."""
        with memoryview(self.mmap()) as whole:
            yield whole[first * self._stride : (first + count) * self._stride]
