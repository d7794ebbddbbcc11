# SPDX-License-Identifier: Apache-2.0
"""Weighted Maglev hashing: lookup tables that are even, equal everywhere and hardly move.

After Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer" (NSDI 2016),
section 3.4. Every node has its own permutation of the slots; nodes take turns, and a node takes
the first free slot of its permutation. Weights: a node's turns come at the times 0, 1.5/w,
2.5/w, ... and are served in the order of their times. The times depend on nothing but the
node's own weight, so a change of one node leaves the order of all other turns as it was, and
a node's share is its weight's share rounded to a slot (never less than one slot).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from galelb.forwarder import Options
from galelb.sources import Scheduler

__all__ = ["Maglev", "build_table"]


class Maglev(Scheduler):
    """The default scheduler."""

    name = "maglev"
    Options = Options

    def __init__(self, options: Any = None) -> None:
        super().__init__(options if options is not None else Options())

    def build(self, nodes: Sequence[tuple[str, float]], size: int, seed: int) -> list[int]:
        """Return `size` slots, each a position in `nodes`; see `build_table`."""
        return build_table(nodes, size, seed)


def build_table(nodes: Sequence[tuple[str, float]], size: int, seed: int) -> list[int]:
    """Return the table: `size` slots, each a position in `nodes` ((address, weight) pairs).

    The address that a slot names depends on the set of pairs, `size` and `seed` only. Raises
    ValueError for no nodes, more nodes than slots, a weight that is not above 0, an address
    given twice, or a size that is not prime (a permutation would miss slots).
    """
    _check(nodes, size)
    starts = [_permutation(address, size, seed) for address, _ in nodes]
    # Ties between turns are broken by place in the permutation, which no one controls.
    order = sorted(range(len(nodes)), key=lambda i: (starts[i], nodes[i][0]))
    turns = _turns([nodes[i][1] for i in order], size)
    table = [-1] * size
    at = [starts[i][0] for i in order]
    skips = [starts[i][1] for i in order]
    for turn in turns:
        slot = at[turn]
        skip = skips[turn]
        while table[slot] >= 0:
            slot += skip
            if slot >= size:
                slot -= size
        table[slot] = order[turn]
        at[turn] = slot
    return table


def _check(nodes: Sequence[tuple[str, float]], size: int) -> None:
    if not nodes:
        raise ValueError("a lookup table needs at least one node")
    if size < 2 or any(size % n == 0 for n in range(2, int(size**0.5) + 1)):
        raise ValueError(f"the table size must be a prime number, got {size}")
    if len(nodes) > size:
        raise ValueError(f"{len(nodes)} nodes do not fit in a table of {size} slots")
    if len({address for address, _ in nodes}) != len(nodes):
        raise ValueError("an address is given twice")
    if not all(0 < weight < float("inf") for _, weight in nodes):
        raise ValueError("weights must be above 0; leave out nodes without weight")


def _permutation(address: str, size: int, seed: int) -> tuple[int, int]:
    """Return where a node's permutation starts and its step, 1 to size - 1."""
    text = f"{seed}/{address}".encode()
    digest = hashlib.blake2b(text, digest_size=16, person=b"galelb maglev").digest()
    offset = int.from_bytes(digest[:8], "little") % size
    return offset, int.from_bytes(digest[8:], "little") % (size - 1) + 1


def _turns(weights: list[float], size: int) -> list[int]:
    """Return whose turn it is, `size` times, by the times of the module's docstring.

    Each node's times ascend, so the list to sort is made of ascending runs: that is what
    Python's sort is fastest at. It is stable, so ties go to the earlier node.
    """
    if len(set(weights)) == 1:
        rounds, rest = divmod(size, len(weights))
        return list(range(len(weights))) * rounds + list(range(rest))
    total = sum(weights)
    owners: list[int] = []
    times: list[float] = []
    for node, weight in enumerate(weights):
        # A few more than can be needed: the first turn is free, the last ones may round up.
        count = int(size * weight / total) + 3
        owners += [node] * count
        times.append(0.0)
        times += [(turn + 0.5) / weight for turn in range(1, count)]
    by_time = sorted(range(len(times)), key=times.__getitem__)
    return [owners[n] for n in by_time[:size]]
