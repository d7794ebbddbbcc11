# SPDX-License-Identifier: Apache-2.0
"""Addresses and ports as the numbers that C's structs hold."""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address

from galelb.model import IPAddress

__all__ = ["address_from_words", "address_words", "network_port"]


def address_words(address: IPAddress) -> tuple[int, ...]:
    """Return an address as C's `u32 addr[4]`, words as they lie in memory (network order)."""
    packed = address.packed.ljust(16, b"\0")
    return tuple(int.from_bytes(packed[i : i + 4], sys.byteorder) for i in range(0, 16, 4))


def address_from_words(words: Sequence[int], family: int) -> IPAddress:
    """Return the address in C's `u32 addr[4]`; `family` is 4 or 6."""
    packed = b"".join(word.to_bytes(4, sys.byteorder) for word in words)
    return IPv6Address(packed) if family == 6 else IPv4Address(packed[:4])


def network_port(port: int) -> int:
    """Return a port as C's `__be16` read as a native integer."""
    return socket.htons(port)
