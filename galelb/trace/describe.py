# SPDX-License-Identifier: Apache-2.0
"""What differs between a frame as it came and as it left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from galelb.trace.layers import Layer, layers

__all__ = ["Change", "Difference", "difference"]

_LINK = ("eth", "vlan")
_SMALLEST_HEADER = 20
_MESSAGES = ("icmp", "icmp6")


@attrs.frozen
class Change:
    """A field that differs."""

    layer: str
    field: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.layer}.{self.field} {self.before} -> {self.after}"


@attrs.frozen(kw_only=True)
class Difference:
    """What became of a packet: headers put before it or taken off, and fields that changed."""

    layers: Sequence[Layer]
    """Of the frame as it left, those of a packet within its tunnel too."""
    added: Sequence[Layer] = ()
    removed: Sequence[Layer] = ()
    changes: Sequence[Change] = ()


def difference(before: bytes, after: bytes) -> Difference:
    """Compare a frame as it came with the same as it left."""
    old, new = layers(before), layers(after)
    outer: list[Layer] = []
    inner = _above(new)
    at = _wrapped_at(before, old, after, new)
    if at is not None:
        outer = [one for one in layers(after[:at]) if one.name not in (*_LINK, "data")]
        inner = layers(after, at)
    return Difference(
        layers=[*(one for one in new if one.name in _LINK), *outer, *inner],
        added=[*_tags(new, old), *outer],
        removed=_tags(old, new),
        changes=[*_changes(_only_eth(old), _only_eth(new)), *_changes(_above(old), inner)],
    )


def _wrapped_at(
    before: bytes, old: Sequence[Layer], after: bytes, new: Sequence[Layer]
) -> int | None:
    """Return where the packet that came lies behind headers that it had not; None if it has none.

    Nothing else makes packets longer.
    """
    start = _l3(new)
    inner = len(after) - (len(before) - _l3(old))
    if inner - start < _SMALLEST_HEADER or inner >= len(after):
        return None
    return inner if after[inner] >> 4 == before[_l3(old)] >> 4 else None


def _l3(found: Sequence[Layer]) -> int:
    return 14 + 4 * sum(one.name == "vlan" for one in found)


def _only_eth(found: Sequence[Layer]) -> list[Layer]:
    """Return the Ethernet header without its type, which follows from what is above."""
    return [
        Layer("eth", {k: v for k, v in one.fields.items() if k != "type"})
        for one in found
        if one.name == "eth"
    ]


def _above(found: Sequence[Layer]) -> list[Layer]:
    return [one for one in found if one.name not in _LINK]


def _tags(mine: Sequence[Layer], other: Sequence[Layer]) -> list[Layer]:
    tags = [one for one in other if one.name == "vlan"]
    return [one for one in mine if one.name == "vlan" and one not in tags]


def _changes(old: Sequence[Layer], new: Sequence[Layer]) -> Iterator[Change]:
    """Compare layer by layer; from the first one that is of another kind, nothing is said.

    What an ICMP error quotes has layers called "quoted ip" and so on.
    """
    quoted = ""
    for one, other in zip(old, new, strict=False):
        if one.name != other.name:
            return
        names = dict.fromkeys([*one.fields, *other.fields])
        for name in names:
            values = one.fields.get(name), other.fields.get(name)
            if values[0] != values[1]:
                yield Change(f"{quoted}{one.name}", name, *values)
        if one.name in _MESSAGES:
            quoted = "quoted "
