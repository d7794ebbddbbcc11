# SPDX-License-Identifier: Apache-2.0
"""Where the virtual nodes lie on the ring: CRC-32, mixed.

CRC-32 is linear: for keys of one length the checksums of two nodes' virtual nodes differ by one
constant, so they lie in the same pattern, and similar addresses get very uneven shares. The
finaliser of MurmurHash3 (fmix32, by Austin Appleby, in the public domain) over it is a
one-to-one function that breaks the pattern, so what collides is what collides in CRC-32.
"""

from __future__ import annotations

import functools
import sys
import zlib
from array import array

__all__ = ["NODE_BITS", "points"]

NODE_BITS = 20
"""A point is one number: the place on the ring above this many bits for the node."""

_LANE = 8
"""Many places are mixed at once, as lanes of 64 bits in one large integer."""


def points(address: str, count: int, seed: int, node: int) -> array[int]:
    """Return a node's first `count` points; fewer are always the beginning of more."""
    start = _mixed(zlib.crc32(f"{seed}/{address}".encode()), 1)
    places = array("Q", [zlib.crc32(suffix, start) for suffix in _suffixes(count)])
    lanes = _mixed(int.from_bytes(places.tobytes(), sys.byteorder), count)
    return array(
        "Q", (lanes << NODE_BITS | _ones(count) * node).to_bytes(_LANE * count, sys.byteorder)
    )


def _mixed(lanes: int, count: int) -> int:
    """Return fmix32 of each lane; a lane has room for the product of two 32-bit numbers."""
    low = _ones(count) * 0xFFFFFFFF
    lanes ^= lanes >> 16 & low
    lanes = lanes * 0x85EBCA6B & low
    lanes ^= lanes >> 13 & low
    lanes = lanes * 0xC2B2AE35 & low
    return lanes ^ lanes >> 16 & low


@functools.lru_cache(maxsize=64)
def _ones(count: int) -> int:
    """Return the number 1 in every lane."""
    return int.from_bytes((1).to_bytes(_LANE, sys.byteorder) * count, sys.byteorder)


@functools.lru_cache(maxsize=64)
def _suffixes(count: int) -> tuple[bytes, ...]:
    return tuple(b"/%d" % number for number in range(count))
