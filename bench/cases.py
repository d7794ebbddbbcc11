# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks of packets measure: forwarders, and how much of everything there is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from fnmatch import fnmatchcase
from ipaddress import ip_address
from typing import Any

import attrs

from bench.machine import RefusedError
from galelb.testing.runner import TABLE_SIZE

__all__ = ["NODES", "PACKETS", "ROUNDS", "SOURCES", "Case", "cases", "chosen", "nat_options"]

PACKETS = int(os.environ.get("GALELB_BENCH_PACKETS", "1000000"))
"""Packets of a round."""
ROUNDS = int(os.environ.get("GALELB_BENCH_ROUNDS", "7"))
PATTERN = os.environ.get("GALELB_BENCH_CASES", "*")
"""Shell pattern for names of cases."""

FLOWS = (1, 1_000, 65_536, 1_000_000)
NODES = 10
MANY_NODES = 1_000
MANY_SERVICES = 200
VERSIONS = (4, 6)
SOURCES = {4: "10.0.0.201", 6: "fd00::201"}
"""The first address that packets of l4_nat come from at nodes."""
_KINDS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("l2_bridge", {}),
    ("l3_route", {"encap": "ipip"}),
    ("l3_route", {"encap": "gue"}),
    ("l3_route", {"encap": "none"}),
    ("l4_nat", {}),
    ("l4_nat", {"answers": True}),
)
_PORTS = 25_000
"""Ports of a source address on one node, of which l4_nat has some more."""
_FEWEST_FLOWS = 1 << 16
_SLICES = 64


@attrs.frozen(kw_only=True)
class Case:
    """What one line of the result is about."""

    forwarder: str
    version: int = 4
    encap: str = ""
    flows: int = 1
    services: int = 1
    nodes: int = NODES
    table_size: int = TABLE_SIZE
    answers: bool = False
    """Packets of nodes to clients instead of the other way."""
    new: bool = False
    """Every packet is the first one of its flow; `flows` of them in each round."""

    @property
    def name(self) -> str:
        """One line for people, and what patterns choose by."""
        words = [self.forwarder, self.encap, "back" * self.answers, f"IPv{self.version}"]
        new = " new" if self.new else ""
        parts = [" ".join(filter(None, words)), f"{self.flows:,}{new} flow{'s' * (self.flows > 1)}"]
        parts += [f"{self.services:,} services"] * (self.services > 1)
        parts += [f"{self.nodes:,} nodes"] * (self.nodes != NODES)
        return ", ".join(parts)

    @property
    def packets(self) -> int:
        """Packets of a round."""
        return self.flows if self.new else PACKETS

    @property
    def flows_in_all(self) -> int:
        """How many flows the program meets: new ones in each round, and in one to warm up."""
        return self.flows * (ROUNDS + 1) if self.new else self.flows

    @property
    def options(self) -> dict[str, Any]:
        """The settings of the forwarder's plugin."""
        if self.forwarder == "l4_nat":
            return nat_options(self.version, self.flows_in_all)
        return {"encap": self.encap} if self.encap else {}


def nat_options(version: int, flows: int) -> dict[str, Any]:
    """Return settings of l4_nat with room for so many flows: none meets a full bucket or slice."""
    count = -(-flows // (_PORTS * NODES))
    return {
        "max_flows": max(_FEWEST_FLOWS, 2 * flows),
        "max_slices": max(_SLICES, NODES * count),
        "source_addresses": tuple(ip_address(SOURCES[version]) + n for n in range(count)),
    }


def cases() -> list[Case]:
    """Return what is measured, of every forwarder in both families."""
    new = max(1, PACKETS // 10)
    sizes: list[dict[str, Any]] = [
        *({"flows": flows} for flows in FLOWS),
        {"flows": FLOWS[2], "nodes": MANY_NODES},
        {"services": MANY_SERVICES},
        {"flows": new, "new": True},
    ]
    return [
        Case(forwarder=name, version=version, **kind, **size)
        for name, kind in _KINDS
        for version in VERSIONS
        for size in sizes
        if not (kind.get("answers") and size.get("new"))
    ]


def chosen(pattern: str = PATTERN) -> list[Case]:
    """Return the cases whose names match a shell pattern; raises RefusedError if none does."""
    found = [case for case in cases() if fnmatchcase(case.name, pattern)]
    if not found:
        names = "\n".join(f"  {case.name}" for case in cases())
        raise RefusedError(f'no case has a name like "{pattern}"; there are\n{names}')
    return found
