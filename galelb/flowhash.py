# SPDX-License-Identifier: Apache-2.0
"""The node hash of bpf/select.h in Python: which slot of a lookup table a client's flow takes."""

from __future__ import annotations

import sys

from galelb.model import IPAddress

__all__ = ["flow_hash", "flow_slot"]

_MASK = (1 << 64) - 1
_FACTOR = 0x9E3779B97F4A7C15


def _mix(state: int, word: int) -> int:
    """One step: 64-bit multiply by the golden ratio, then fold the upper half into the lower."""
    state = ((state ^ word) * _FACTOR) & _MASK
    return state ^ (state >> 32)


def flow_hash(client: IPAddress, port: int, seed: int) -> int:
    """Return the 32-bit hash of a client's address and port for a group's table seed.

    The address goes in as 32-bit words as they lie in memory, an IPv4 address as one. Equal on
    every balancer of the same byte order.
    """
    state = seed & _MASK
    packed = client.packed
    for at in range(0, len(packed), 4):
        state = _mix(state, int.from_bytes(packed[at : at + 4], sys.byteorder))
    return (_mix(_mix(state, port), 0) >> 16) & 0xFFFFFFFF


def flow_slot(client: IPAddress, port: int, seed: int, size: int) -> int:
    """Return the slot, of `size`, that a client's flow takes in a lookup table."""
    return (flow_hash(client, port, seed) * size) >> 32
