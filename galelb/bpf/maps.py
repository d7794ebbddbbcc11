# SPDX-License-Identifier: Apache-2.0
"""Pinned maps with Python values: the kernel's side of galelb.forwarder.BpfMap."""

from __future__ import annotations

import contextlib
import errno
import itertools
import mmap
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from galelb.bpf import mapcalls, syscalls
from galelb.bpf.codec import Codec, make_codec
from galelb.bpf.layout import MapLayout, MapType
from galelb.errors import MapError

__all__ = ["PinnedMap", "close_maps", "open_maps", "possible_cpus"]

_BATCH_BYTES = 1 << 20
_MAX_BATCH = 8192
_MMAPABLE = 1 << 10  # BPF_F_MMAPABLE
_NO_BATCH = {errno.EINVAL, errno.EOPNOTSUPP, syscalls.ENOTSUPP}
_ARRAYS = {MapType.ARRAY, MapType.PERCPU_ARRAY, MapType.PROG_ARRAY}
_PER_CPU = {MapType.PERCPU_HASH, MapType.PERCPU_ARRAY, MapType.LRU_PERCPU_HASH}
_BATCHED = {
    MapType.HASH,
    MapType.ARRAY,
    MapType.LRU_HASH,
    *_PER_CPU,
}

T = TypeVar("T")


def possible_cpus() -> int:
    """Return how many values an entry of a per-CPU map has."""
    with open("/sys/devices/system/cpu/possible", encoding="ascii") as file:  # noqa: PTH123
        ranges = file.read().strip().split(",")
    return int(ranges[-1].split("-")[-1]) + 1


class PinnedMap:
    """One open map; see galelb.forwarder.BpfMap for the values. The opener calls close()."""

    def __init__(self, layout: MapLayout) -> None:
        self.name = layout.name
        self.max_entries = layout.max_entries
        self.layout = layout
        self._keys = make_codec(layout.key, layout.name)
        self._leaves = make_codec(layout.leaf, layout.name)
        self._per_cpu = possible_cpus() if layout.type in _PER_CPU else 0
        step = -(-layout.leaf_size // 8) * 8
        self._leaf_bytes = step * self._per_cpu if self._per_cpu else layout.leaf_size
        self._fd = self._call("open", lambda: syscalls.obj_get(layout.pin))
        try:
            self._check()
        except MapError:
            self.close()
            raise

    def _check(self) -> None:
        """Refuse a map of another shape than the layout says."""
        info = self._call("open", lambda: syscalls.map_info(self._fd))
        wanted = self.layout
        found = (info.type, info.key_size, info.leaf_size, info.max_entries)
        if found != (wanted.type, wanted.key_size, wanted.leaf_size, wanted.max_entries):
            raise self._error("open", f"{wanted.pin} has another shape: remove it and restart")
        sized = wanted.type != MapType.RINGBUF
        if sized and (self._keys.size, self._leaves.size) != found[1:3]:
            raise self._error("open", "its C types have a layout that is not understood")

    def fileno(self) -> int:
        """Return the map's fd; it stays ours."""
        return self._fd

    @property
    def records(self) -> Codec:
        """The codec of leaves; for a ring buffer that of its records."""
        return self._leaves

    def close(self) -> None:
        """Close the fd; later calls raise MapError. The pin stays."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def get(self, key: Any) -> Any | None:
        """Return the leaf, or None; for a per-CPU map the list of leaves of all CPUs."""
        data = self._key(key, "get")
        try:
            leaf = mapcalls.lookup(self._fd, data, self._leaf_bytes)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return None
            raise self._error("get", f"key {key!r}: {error.strerror}") from None
        return self._decode(leaf, 0)

    def set(self, key: Any, leaf: Any) -> None:
        """Write one entry; one leaf for a per-CPU map is written for every CPU."""
        pair = self._key(key, "set"), self._leaf(leaf)
        try:
            mapcalls.update(self._fd, *pair)
        except OSError as error:
            raise self._error("set", f"key {key!r}: {error.strerror}") from None

    def update(self, entries: Mapping[Any, Any] | Iterable[tuple[Any, Any]]) -> None:
        """Write many entries, in batches where the kernel can. Struct keys: use pairs."""
        pairs = iter(entries.items() if isinstance(entries, Mapping) else entries)
        while chunk := list(itertools.islice(pairs, self._batch_size())):
            self._update_chunk(chunk)

    def _update_chunk(self, chunk: list[tuple[Any, Any]]) -> None:
        if self.layout.type in _BATCHED:
            try:
                keys = self._keys.encode_all([key for key, _ in chunk])
                leaves = self._encode_leaves([leaf for _, leaf in chunk])
            except ValueError as error:
                raise self._error("update", str(error)) from None
            try:
                mapcalls.update_batch(self._fd, keys, leaves, len(chunk))
            except OSError as error:
                if error.errno not in _NO_BATCH:
                    raise self._error("update", str(error.strerror)) from None
            else:
                return
        for key, leaf in chunk:
            self.set(key, leaf)

    def delete(self, key: Any) -> None:
        """Remove a hash entry; absent is fine."""
        data = self._key(key, "delete")
        try:
            mapcalls.delete(self._fd, data)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise self._error("delete", f"key {key!r}: {error.strerror}") from None

    def items(self) -> Iterator[tuple[Any, Any]]:
        """Iterate over all entries (all elements of an array).

        A hash map that changes meanwhile may give some entries twice or not at all.
        """
        if self.layout.type in _BATCHED:
            try:
                yield from self._items_batched()
            except OSError as error:
                if error.errno not in _NO_BATCH:
                    raise self._error("items", str(error.strerror)) from None
            else:
                return
        for key in self._every_key():
            leaf = self.get(key)
            if leaf is not None:
                yield key, leaf

    def _items_batched(self) -> Iterator[tuple[Any, Any]]:
        size = self._batch_size()
        for keys, leaves in mapcalls.lookup_batches(
            self._fd, self._keys.size, self._leaf_bytes, size
        ):
            decoded = self._keys.decode_all(keys)
            if not self._per_cpu:
                yield from zip(decoded, self._leaves.decode_all(leaves), strict=True)
                continue
            for number, key in enumerate(decoded):
                yield key, self._decode(leaves, number * self._leaf_bytes)

    def _every_key(self) -> Iterator[Any]:
        if self.layout.type in _ARRAYS:
            yield from range(self.max_entries)
            return
        try:
            for data in mapcalls.every_key(self._fd, self._keys.size):
                yield self._keys.decode(data)
        except OSError as error:
            raise self._error("items", str(error.strerror)) from None

    def copy_to(self, other: PinnedMap) -> None:
        """Write all entries to a map of the same types, as bytes; only reads its own."""
        if self.layout.flags & _MMAPABLE:
            size = self._pages()
            with mmap.mmap(self._fd, size, access=mmap.ACCESS_READ) as mine, other.mmap() as theirs:
                theirs[:] = mine
            return
        if self.layout.type not in _BATCHED:
            other.update(list(self.items()))
            return
        try:
            for keys, leaves in mapcalls.lookup_batches(
                self._fd, self._keys.size, self._leaf_bytes, self._batch_size()
            ):
                if count := len(keys) // self._keys.size:
                    mapcalls.update_batch(other.fileno(), bytes(keys), bytes(leaves), count)
        except OSError as error:
            raise self._error("copy", str(error.strerror)) from None

    def mmap(self) -> mmap.mmap:
        """Map a BPF_F_MMAPABLE array; the caller keeps it. Elements are padded to 8 bytes."""
        try:
            return mmap.mmap(self._fd, self._pages())
        except (OSError, ValueError) as error:
            raise self._error("mmap", f"{error}; it is no BPF_F_MMAPABLE array") from None

    @contextlib.contextmanager
    def mapped(self, first: int, count: int) -> Iterator[memoryview]:
        """Map some elements of a BPF_F_MMAPABLE array, as `mmap` does, until the block ends.

        The kernel maps every page at once, so a large array that stays mapped is resident.
        """
        begin, end = first * self._stride(), (first + count) * self._stride()
        page = begin - begin % mmap.ALLOCATIONGRANULARITY
        try:
            memory = mmap.mmap(self._fd, _whole_pages(end - page), offset=page)
        except (OSError, ValueError) as error:
            raise self._error("mmap", f"{error}; elements {first} to {first + count}") from None
        with memory, memoryview(memory) as pages, pages[begin - page : end - page] as part:
            yield part

    def _pages(self) -> int:
        """Return the bytes of all elements, in whole pages."""
        return _whole_pages(self._stride() * self.max_entries)

    def _stride(self) -> int:
        """Return the bytes from one element of a mapped array to the next."""
        return -(-self.layout.leaf_size // 8) * 8

    def _batch_size(self) -> int:
        return max(1, min(_MAX_BATCH, _BATCH_BYTES // max(self._leaf_bytes, 1)))

    def _key(self, key: Any, operation: str) -> bytes:
        try:
            return self._keys.encode(key)
        except ValueError as error:
            raise self._error(operation, f"key {error}") from None

    def _leaf(self, leaf: Any) -> bytes:
        try:
            return self._encode_leaves([leaf])
        except ValueError as error:
            raise self._error("set", f"leaf {error}") from None

    def _encode_leaves(self, leaves: list[Any]) -> bytes:
        if not self._per_cpu:
            return self._leaves.encode_all(leaves)
        step = self._leaf_bytes // self._per_cpu
        parts = []
        for leaf in leaves:
            values = leaf if isinstance(leaf, list) else [leaf] * self._per_cpu
            if len(values) != self._per_cpu:
                raise ValueError(f"wants {self._per_cpu} values, one for each possible CPU")
            parts += [self._leaves.encode(value).ljust(step, b"\0") for value in values]
        return b"".join(parts)

    def _decode(self, data: bytes | memoryview, offset: int) -> Any:
        if not self._per_cpu:
            return self._leaves.decode(data, offset)
        step = self._leaf_bytes // self._per_cpu
        return [self._leaves.decode(data, offset + cpu * step) for cpu in range(self._per_cpu)]

    def _call(self, operation: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            raise self._error(operation, f"{error.strerror}{where}") from None

    def _error(self, operation: str, message: str) -> MapError:
        return MapError(self.name, operation, message)


def _whole_pages(size: int) -> int:
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE


def open_maps(layouts: Mapping[str, MapLayout]) -> dict[str, PinnedMap]:
    """Open every map, or none: raises MapError. Close them with close_maps."""
    with contextlib.ExitStack() as stack:
        maps: dict[str, PinnedMap] = {}
        for name, layout in layouts.items():
            maps[name] = PinnedMap(layout)
            stack.callback(maps[name].close)
        stack.pop_all()
    return maps


def close_maps(maps: Mapping[str, PinnedMap]) -> None:
    """Close the fds of maps; pins stay."""
    for one in maps.values():
        one.close()
