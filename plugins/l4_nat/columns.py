# SPDX-License-Identifier: Apache-2.0
"""Reads l4_nat's tables whole columns at a time, beside the programs that change them."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import numpy as np
import numpy.typing as npt
from galelb_plugins.l4_nat.codec import slice_from_leaf, slice_key_from_struct
from galelb_plugins.l4_nat.entries import USED
from galelb_plugins.l4_nat.slices import Slice, SliceKey

from galelb.forwarder import BpfMap

__all__ = ["Columns", "Indices", "Places", "WaysBack", "Words", "read_places"]

Words = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]

_MIX = np.uint64(0x9E3779B97F4A7C15)  # GALE_MIX, bpf/select.h
_HALF = np.uint64(32)
_QUADS = {4: 2, 6: 4}
_ENTRIES = 4
_IDS = 1 << 16


def _mix(state: Words, words: Words) -> Words:
    state = (state ^ words) * _MIX
    return state ^ (state >> _HALF)


class Columns:
    """A mapped table of entries: rows of one or three words of key, and a word (see tables.h)."""

    def __init__(self, table: BpfMap, version: int, seed: int = 0) -> None:
        quads = _QUADS[version]
        self._per_element = 1 if "ports" in table.name else _ENTRIES
        self._buckets = table.max_entries
        self._seed = np.array([seed], np.uint64)
        self.entries = table.max_entries * self._per_element
        memory = np.frombuffer(table.mmap(), np.uint64, count=self.entries * quads)
        self.rows: Words = memory.reshape(-1, quads)

    def words(self, first: int, last: int) -> Words:
        """Return a copy of the words of entries `first` to `last` - 1."""
        return self.rows[first:last, -1].copy()

    def keys(self, at: Indices, words: Words) -> tuple[Words, npt.NDArray[np.bool_]]:
        """Return the keys of entries whose words were read, and which of them changed no hands."""
        keys = self.rows[at, :-1]
        return keys, (self.rows[at, -1] >> _HALF) == (words >> _HALF)

    def whole(self, at: Indices) -> tuple[Words, Words]:
        """Return keys and words of entries; words of free ones, or of those just changing, are 0.

        Programs free an entry before another flow takes it, so its word is read on both sides of
        the key.
        """
        words = self.rows[at, -1]
        keys, same = self.keys(at, words)
        return keys, np.where(same & (words >= USED), words, np.uint64(0))

    def find(self, keys: Words) -> Indices:
        """Return where the entries of these keys are (rows of words); -1 = nowhere."""
        found = np.full(len(keys), -1, np.int64)
        for first in self._first_of_buckets(self._hash(keys)):
            for at in (first + n for n in range(_ENTRIES)):
                rows = self.rows[at]
                same = (rows[:, :-1] == keys).all(axis=1) & (rows[:, -1] >= USED)
                found = np.where(same & (found < 0), at, found)
        return found

    def near(self, hashes: Words) -> Indices:
        """Return all places where entries of keys with these hashes can be, each once."""
        first = np.unique(np.concatenate(self._first_of_buckets(hashes)))
        return (first[:, None] + np.arange(_ENTRIES)).ravel()

    def _first_of_buckets(self, hashes: Words) -> tuple[Indices, Indices]:
        """Return where both buckets of each hash begin: l4_nat_index (flow.h)."""
        mask = np.uint64(self._buckets - 1)
        one, other = hashes & mask, hashes >> _HALF & mask
        return one.astype(np.int64) * _ENTRIES, other.astype(np.int64) * _ENTRIES

    def _hash(self, keys: Words) -> Words:
        """Return what l4_nat_key_make (flow.h) computes."""
        state = np.broadcast_to(self._seed, len(keys))
        for column in keys.T:
            state = _mix(state, column)
        return _mix(state, np.zeros(1, np.uint64))


@attrs.frozen
class Places:
    """The slices that programs know: by what they are, and columns by id for ways back."""

    by_key: Mapping[SliceKey, Slice]
    by_id: Mapping[int, SliceKey]
    base: Indices
    first_port: Indices
    count: Indices


def read_places(table: BpfMap) -> Places:
    """Read l4_nat_slices."""
    by_key = {slice_key_from_struct(key): slice_from_leaf(leaf) for key, leaf in table.items()}
    columns = [np.zeros(_IDS, np.int64) for _ in range(3)]
    for part in by_key.values():
        for column, value in zip(columns, (part.base, part.first_port, part.count), strict=True):
            column[part.id] = value
    return Places(by_key, {part.id: key for key, part in by_key.items()}, *columns)


class WaysBack:
    """The node's side of flows: port slots in full_nat, a return table in dnat."""

    def __init__(self, maps: Mapping[str, BpfMap], version: int, seed: int) -> None:
        ports, returns = f"l4_nat_ports{version}", f"l4_nat_returns{version}"
        self._indexed = ports in maps
        name = ports if self._indexed else returns
        self._table = Columns(maps[name], version, seed)

    def words(self, keys: Words, forward: Words, places: Places) -> Words:
        """Return the words of flows' ways back; 0 where there is none (yet)."""
        ids = (forward >> np.uint64(48)).astype(np.int64)
        if self._indexed:
            ports = (forward >> _HALF & np.uint64(0xFFFF)).astype(np.int64)
            offset = ports - places.first_port[ids]
            good = (offset >= 0) & (offset < places.count[ids])
            at = np.where(good, places.base[ids] + offset, -1)
            return self._words(at, keys)
        other = keys.copy()
        other[:, -1] = other[:, -1] >> np.uint64(16) << np.uint64(16) | ids.astype(np.uint64)
        return self._words(self._table.find(other), other)

    def _words(self, at: Indices, wanted: Words) -> Words:
        """Return the words of entries that have the wanted keys; 0 for others, and for -1."""
        keys, words = self._table.whole(at)
        good = (at >= 0) & (keys == wanted).all(axis=1)
        return np.where(good, words, np.uint64(0))
