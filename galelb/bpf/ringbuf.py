# SPDX-License-Identifier: Apache-2.0
"""Reads the records of a BPF ring buffer straight from its pages."""

from __future__ import annotations

import mmap
import os
import struct
from typing import Any

import trio

from galelb.bpf import syscalls
from galelb.bpf.codec import make_codec
from galelb.bpf.layout import MapLayout, MapType
from galelb.errors import MapError

__all__ = ["RingBuffer", "events"]

_BUSY = 1 << 31
_DISCARDED = 1 << 30
_HEADER = 8
_BATCH = 256


class RingBuffer:
    """The only reader of a pinned ring buffer; records come in order, the opener closes.

    Its fd is readable when there are records. Raises MapError.
    """

    def __init__(self, layout: MapLayout) -> None:
        if layout.type != MapType.RINGBUF:
            raise MapError(layout.name, "open", "it is no ring buffer")
        self.name = layout.name
        self._size = layout.max_entries
        self._codec = make_codec(layout.leaf, layout.name)
        try:
            self._fd = syscalls.obj_get(layout.pin)
        except OSError as error:
            raise MapError(layout.name, "open", f"{error.strerror} ({layout.pin})") from None
        try:
            self._consumer, self._producer = self._map_pages()
        except (OSError, ValueError) as error:
            os.close(self._fd)
            raise MapError(layout.name, "mmap", str(error)) from None

    def _map_pages(self) -> tuple[mmap.mmap, mmap.mmap]:
        """Map the consumer's page, and the producer's with the data twice in a row behind it."""
        consumer = mmap.mmap(self._fd, mmap.PAGESIZE)
        try:
            length = mmap.PAGESIZE + 2 * self._size
            producer = mmap.mmap(
                self._fd, length, prot=mmap.PROT_READ, offset=mmap.PAGESIZE, flags=mmap.MAP_SHARED
            )
        except (OSError, ValueError):
            consumer.close()
            raise
        return consumer, producer

    @property
    def record_bytes(self) -> int:
        """Bytes of the C type of a record; what a record has more lies behind it."""
        return self._codec.size

    def fileno(self) -> int:
        """Return the fd to wait on; it stays ours."""
        return self._fd

    def drain(self, limit: int = _BATCH) -> list[bytes]:
        """Take up to `limit` records that are complete; does not block."""
        records: list[bytes] = []
        position = self._read(self._consumer)
        while len(records) < limit and position < self._read(self._producer):
            at = mmap.PAGESIZE + position % self._size
            (word,) = struct.unpack_from("I", self._producer, at)
            if word & _BUSY:
                break
            length = word & ~_DISCARDED
            if not word & _DISCARDED:
                records.append(self._producer[at + _HEADER : at + _HEADER + length])
            position += -(-(length + _HEADER) // 8) * 8
            struct.pack_into("Q", self._consumer, 0, position)
        return records

    def decode(self, record: bytes) -> Any:
        """Return a record as a value of the C type that the map was declared with."""
        if len(record) < self._codec.size:
            raise MapError(self.name, "decode", f"a record of {len(record)} bytes is too short")
        return self._codec.decode(record)

    def close(self) -> None:
        """Unmap and close; the pin stays, unread records too."""
        self._consumer.close()
        self._producer.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _read(self, page: mmap.mmap) -> int:
        # 8 aligned bytes: one load on 64-bit machines.
        return int(struct.unpack_from("Q", page)[0])


class events:  # noqa: N801 - used like a function: `async for event in events(ring)`
    """Yields decoded records as they come, for ever; checkpoints, cancellable."""

    def __init__(self, ring: RingBuffer) -> None:
        self._ring = ring
        self._batch: list[bytes] = []

    def __aiter__(self) -> events:
        return self

    async def __anext__(self) -> Any:
        while not self._batch:
            self._batch = self._ring.drain()[::-1]
            if self._batch:
                await trio.lowlevel.checkpoint()
            else:
                await trio.lowlevel.wait_readable(self._ring.fileno())
        return self._ring.decode(self._batch.pop())
