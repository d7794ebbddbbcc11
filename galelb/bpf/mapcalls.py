# SPDX-License-Identifier: Apache-2.0
"""The bpf(2) calls for elements of maps, in bytes; failures are OSError."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator

from galelb.bpf.syscalls import bpf, pointer

__all__ = [
    "delete",
    "every_key",
    "lookup",
    "lookup_batches",
    "update",
    "update_batch",
]

_LOOKUP = 1
_UPDATE = 2
_DELETE = 3
_NEXT_KEY = 4
_LOOKUP_BATCH = 24
_UPDATE_BATCH = 26
_COUNT_OFFSET = 32
_MAX_BATCH = 1 << 20

Buffer = ctypes.Array[ctypes.c_char]


def _element(command: int, fd: int, key: Buffer | None, value: Buffer | None) -> None:
    attributes = struct.pack("IIQQQ", fd & 0xFFFFFFFF, 0, pointer(key), pointer(value), 0)
    bpf(command, ctypes.create_string_buffer(attributes, 32))


def lookup(fd: int, key: bytes, size: int) -> bytes:
    """Return an element; ENOENT if there is none."""
    value = ctypes.create_string_buffer(size)
    _element(_LOOKUP, fd, ctypes.create_string_buffer(key, len(key)), value)
    return value.raw


def update(fd: int, key: bytes, value: bytes) -> None:
    """Write an element, new or not."""
    buffers = (ctypes.create_string_buffer(data, len(data)) for data in (key, value))
    _element(_UPDATE, fd, *buffers)


def delete(fd: int, key: bytes) -> None:
    """Remove an element; ENOENT if there is none."""
    _element(_DELETE, fd, ctypes.create_string_buffer(key, len(key)), None)


def every_key(fd: int, size: int) -> Iterator[bytes]:
    """Yield the keys one by one; a key removed meanwhile makes the kernel start again."""
    current: Buffer | None = None
    while True:
        following = ctypes.create_string_buffer(size)
        try:
            _element(_NEXT_KEY, fd, current, following)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return
            raise
        yield following.raw
        current = following


def _batch(
    fd: int, where: tuple[Buffer | None, Buffer | None], keys: Buffer, values: Buffer, count: int
) -> Buffer:
    """Return attributes of a batch call; the kernel writes the count that it did into them."""
    addresses = [pointer(buffer) for buffer in (*where, keys, values)]
    data = struct.pack("QQQQIIQQ", *addresses, count, fd & 0xFFFFFFFF, 0, 0)
    return ctypes.create_string_buffer(data, len(data))


def update_batch(fd: int, keys: bytes, values: bytes, count: int) -> None:
    """Write many elements with one call."""
    key_buffer = ctypes.create_string_buffer(keys, len(keys))
    value_buffer = ctypes.create_string_buffer(values, len(values))
    bpf(_UPDATE_BATCH, _batch(fd, (None, None), key_buffer, value_buffer, count))


def lookup_batches(
    fd: int, key_size: int, value_size: int, count: int
) -> Iterator[tuple[memoryview, memoryview]]:
    """Yield keys and values of all elements, `count` or less at a time.

    A bucket of a hash map that does not fit makes the batch grow.
    """
    place: Buffer | None = None
    last = False
    while not last:
        keys = ctypes.create_string_buffer(count * key_size)
        values = ctypes.create_string_buffer(count * value_size)
        after = ctypes.create_string_buffer(max(key_size, 8))
        attributes = _batch(fd, (place, after), keys, values, count)
        code = _lookup_batch(attributes)
        if code == errno.ENOSPC and count < _MAX_BATCH:
            count *= 2
            continue
        if code not in (0, errno.ENOENT):
            raise OSError(code, os.strerror(code))
        (done,) = struct.unpack_from("I", attributes, _COUNT_OFFSET)
        yield memoryview(keys)[: done * key_size], memoryview(values)[: done * value_size]
        last, place = code == errno.ENOENT, after


def _lookup_batch(attributes: Buffer) -> int:
    """Return 0, or the errno: ENOENT after the last batch."""
    try:
        bpf(_LOOKUP_BATCH, attributes)
    except OSError as error:
        return error.errno or errno.EIO
    return 0
