# SPDX-License-Identifier: Apache-2.0
"""The bytes that lab servers send: known to both sides, different at every position."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator

__all__ = ["BLOCK_SIZE", "MAX_SIZE", "blocks", "body", "digest"]

BLOCK_SIZE = 65536
MAX_SIZE = 1 << 30


def blocks(size: int) -> Iterator[bytes]:
    """Yield the first `size` bytes of the stream, in blocks.

    Each block follows from its number, so lost, doubled or swapped bytes change the digest.
    """
    for start in range(0, size, BLOCK_SIZE):
        block = hashlib.shake_128(start.to_bytes(8)).digest(BLOCK_SIZE)
        yield block[: size - start]


@functools.lru_cache(maxsize=32)
def body(size: int) -> bytes:
    """Return the first `size` bytes at once; for the small answers of short requests."""
    return b"".join(blocks(size))


@functools.lru_cache(maxsize=256)
def digest(size: int) -> str:
    """Return the SHA-256 of the first `size` bytes in hex; takes about 4 ms per MB."""
    total = hashlib.sha256()
    for block in blocks(size):
        total.update(block)
    return total.hexdigest()
