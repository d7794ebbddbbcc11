# SPDX-License-Identifier: Apache-2.0
"""Turns l4_nat's values into the structs of its C file and back."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

from galelb_plugins.l4_nat.slices import Slice, SliceKey

from galelb.model import IPAddress, Protocol
from galelb.packing import address_from_words, address_words, network_port

__all__ = [
    "CLIENT_SOURCE",
    "FOR_EVER",
    "NO_SLICE",
    "POOL",
    "lease_to_leaf",
    "pool_to_leaf",
    "slice_from_leaf",
    "slice_info",
    "slice_key_from_struct",
    "slice_key_to_struct",
    "slice_to_leaf",
    "source_from_leaf",
    "source_to_leaf",
]

CLIENT_SOURCE = 0xFF
"""Source index that means "the client's own address"."""

POOL = 64
"""Source addresses that new flows may use, per family."""

NO_ADDRESS = (0, 0, 0, 0)
_SLICE_FIELDS = ("id", "base", "first_port", "count", "node", "source_index")


def slice_key_to_struct(key: SliceKey) -> dict[str, Any]:
    """Return a `struct l4_nat_slice_key`."""
    return {
        "node": address_words(key.node),
        "source": NO_ADDRESS if key.source is None else address_words(key.source),
        "target_port": network_port(key.target_port),
        "protocol": int(key.protocol),
        "family": key.node.version,
    }


def slice_key_from_struct(struct: dict[str, Any]) -> SliceKey:
    """Return the combination that a key of l4_nat_slices means."""
    family = struct["family"]
    source = tuple(struct["source"])
    return SliceKey(
        node=address_from_words(struct["node"], family),
        source=None if source == NO_ADDRESS else address_from_words(source, family),
        target_port=socket.ntohs(struct["target_port"]),
        protocol=Protocol(struct["protocol"]),
    )


def slice_to_leaf(part: Slice) -> dict[str, int]:
    """Return a `struct l4_nat_slice`."""
    return {name: getattr(part, name) for name in _SLICE_FIELDS}


def slice_from_leaf(leaf: dict[str, Any]) -> Slice:
    """Return the slice in a leaf of l4_nat_slices."""
    return Slice(**{name: int(leaf[name]) for name in _SLICE_FIELDS})


_PADDING = (0,) * 9


def slice_info(key: SliceKey, part: Slice) -> dict[str, Any]:
    """Return a `struct l4_nat_slice_info`: the same slice as programs find it by id."""
    struct = slice_key_to_struct(key)
    return {
        "source": struct["source"],
        "addr": struct["node"],
        "base": part.base,
        "first_port": part.first_port,
        "count": part.count,
        "node": part.node,
        "target_port": struct["target_port"],
        "protocol": struct["protocol"],
        "family": struct["family"],
        "pad": _PADDING,
    }


NO_SLICE: dict[str, Any] = {
    "source": (0, 0, 0, 0),
    "addr": (0, 0, 0, 0),
    **dict.fromkeys(
        ("base", "first_port", "count", "node", "target_port", "protocol", "family"), 0
    ),
    "pad": _PADDING,
}
"""A `struct l4_nat_slice_info` of an id that no slice has."""


FOR_EVER = (1 << 64) - 1
"""Until when new flows are permitted, where nothing limits that."""
_PARTIAL = 1


def lease_to_leaf(until: int, *, whole: bool) -> dict[str, int]:
    """Return a `struct l4_nat_lease`: until when flows may be made, in monotonic nanoseconds.

    `whole`: whether all flows of peers are known, so that a TCP packet that is no SYN may make one.
    """
    return {"until": until, "flags": 0 if whole else _PARTIAL}


def pool_to_leaf(pool4: Sequence[int], pool6: Sequence[int]) -> dict[str, Any]:
    """Return a `struct l4_nat_settings`: the source indices that new flows may use."""
    return {
        "count4": len(pool4),
        "count6": len(pool6),
        "sources4": bytes(pool4).ljust(POOL, b"\0"),
        "sources6": bytes(pool6).ljust(POOL, b"\0"),
    }


def source_to_leaf(address: IPAddress) -> dict[str, Any]:
    """Return a `struct l4_nat_source`."""
    return {"addr": address_words(address), "family": address.version}


def source_from_leaf(leaf: dict[str, Any]) -> IPAddress | None:
    """Return the address in a leaf of l4_nat_sources, or None for an empty element."""
    family = leaf["family"]
    return address_from_words(leaf["addr"], family) if family else None
