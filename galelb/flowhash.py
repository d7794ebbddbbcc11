# SPDX-License-Identifier: Apache-2.0
"""The hashes of bpf/select.h in Python: of flows to slots of a table, and of nodes' addresses."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from galelb.abi import NODE_FILTER_WORDS
from galelb.model import IPAddress
from galelb.packing import network_port

__all__ = ["flow_hash", "flow_slot", "node_filter"]

_MASK = (1 << 64) - 1
_FACTOR = 0x9E3779B97F4A7C15


def _mix(state: int, word: int) -> int:
    """One step: 64-bit multiply by the golden ratio, then fold the upper half into the lower."""
    state = ((state ^ word) * _FACTOR) & _MASK
    return state ^ (state >> 32)


def flow_hash(client: IPAddress, port: int, seed: int) -> int:
    """Return the 32-bit hash of a client's address and port for a group's table seed.

    Its words are those of memory: two at a time, the first one with the port. Equal on every
    balancer of the same byte order.
    """
    words = _words(client)
    state = seed & _MASK
    if len(words) > 1:
        state = _mix(_mix(state, words[1] | words[2] << 32), words[3])
    state = _mix(state, words[0] | network_port(port) << 32)
    return (state * _FACTOR & _MASK) >> 32


def _words(address: IPAddress) -> list[int]:
    packed = address.packed
    return [int.from_bytes(packed[at : at + 4], sys.byteorder) for at in range(0, len(packed), 4)]


def _mix_address(state: int, address: IPAddress) -> int:
    for word in _words(address):
        state = _mix(state, word)
    return state


def flow_slot(client: IPAddress, port: int, seed: int, size: int) -> int:
    """Return the slot, of `size`, that a client's flow takes in a lookup table."""
    return (flow_hash(client, port, seed) * size) >> 32


def node_filter(addresses: Iterable[IPAddress]) -> list[int]:
    """Return gale_node_filter: 64-bit words with one bit set for each address.

    An address whose bit is not set is none of these; one whose bit is set may be.
    """
    words = [0] * NODE_FILTER_WORDS
    for address in addresses:
        bit = _mix_address(0, address) >> 32
        words[bit % (64 * NODE_FILTER_WORDS) // 64] |= 1 << bit % 64
    return words
