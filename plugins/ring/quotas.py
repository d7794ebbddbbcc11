# SPDX-License-Identifier: Apache-2.0
"""How many slots each node gets: its weight's share, by the method of the largest remainders."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["quotas"]


def quotas(nodes: Sequence[tuple[str, float]], size: int) -> list[int]:
    """Return the slots of each of the nodes ((address, weight) pairs); they add up to `size`.

    Every node gets one at least. Raises ValueError for nodes that cannot be given slots.
    """
    _check(nodes, size)
    total = sum(weight for _, weight in nodes)
    # One each is set aside, and the lightest nodes get no more than that.
    spare = size - len(nodes)
    exact = [max(0.0, size * weight / total - 1) for _, weight in nodes]
    whole = sum(exact)
    shares = [spare * one / whole if whole else spare / len(nodes) for one in exact]
    slots = [int(share) for share in shares]
    by_rest = sorted(
        range(len(nodes)), key=lambda node: (slots[node] - shares[node], nodes[node][0])
    )
    for node in by_rest[: spare - sum(slots)]:
        slots[node] += 1
    return [count + 1 for count in slots]


def _check(nodes: Sequence[tuple[str, float]], size: int) -> None:
    if not nodes:
        raise ValueError("a lookup table needs at least one node")
    if len(nodes) > size:
        raise ValueError(f"{len(nodes)} nodes do not fit in a table of {size} slots")
    if len({address for address, _ in nodes}) != len(nodes):
        raise ValueError("an address is given twice")
    if not all(0 < weight < float("inf") for _, weight in nodes):
        raise ValueError("weights must be above 0; leave out nodes without weight")
