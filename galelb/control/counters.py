# SPDX-License-Identifier: Apache-2.0
"""Reads the packet and byte counters of the programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from galelb.abi import Reason
from galelb.api.view import Count
from galelb.forwarder import BpfMap

__all__ = ["FORWARDING_REASONS", "Counters", "outcome", "read_counters"]

FORWARDING_REASONS = frozenset({Reason.FORWARDED, Reason.FRAGMENT_FOLLOWED, Reason.ICMP_TRANSLATED})
"""Reasons of packets that went to a node."""

_OUTCOMES = {
    **dict.fromkeys(FORWARDING_REASONS, "forwarded"),
    Reason.PASS_FOREIGN: "passed",
    Reason.PASS_UNPARSABLE: "passed",
    Reason.RETURNED: "returned",
    Reason.ICMP_SENT: "answered",
    Reason.RESET_SENT: "answered",
}


def outcome(reason: Reason) -> str:
    """Return what becomes of packets: forwarded, returned, answered, passed or dropped."""
    return _OUTCOMES.get(reason, "dropped")


@attrs.frozen(kw_only=True)
class Counters:
    """All counters at one moment."""

    by_service: Mapping[int, Mapping[Reason, Count]]
    """Service id (0 = packets of no service) -> reason -> count; zero counts left out."""
    by_node: Mapping[int, Count]

    def reasons(self) -> dict[str, Count]:
        """Return totals by lower-case reason name; zero counts left out."""
        totals: dict[str, Count] = {}
        for counts in self.by_service.values():
            for reason, count in counts.items():
                name = reason.name.lower()
                totals[name] = _sum([totals.get(name, Count()), count])
        return totals

    def forwarded(self, service_id: int) -> Count:
        """Return what a service sent to its nodes."""
        counts = self.by_service.get(service_id, {})
        return _sum(count for reason, count in counts.items() if reason in FORWARDING_REASONS)

    def drops(self, service_id: int) -> dict[str, Count]:
        """Return what a service dropped, by lower-case reason name."""
        counts = self.by_service.get(service_id, {})
        return {r.name.lower(): count for r, count in counts.items() if outcome(r) == "dropped"}


def read_counters(
    maps: Mapping[str, BpfMap], services: Iterable[int], nodes: Iterable[int]
) -> Counters:
    """Read the counters of these services (and of id 0) and nodes; blocks, use a worker thread."""
    stats = maps["gale_service_stats"]
    width = max(Reason) + 1
    by_service = {
        service_id: {
            reason: count
            for reason in Reason
            if (count := _count(stats.get(service_id * width + reason))).packets
        }
        for service_id in {0, *services}
    }
    by_node = {node: _count(maps["gale_node_stats"].get(node)) for node in nodes}
    return Counters(by_service=by_service, by_node=by_node)


def _count(cpus: list[dict[str, Any]] | None) -> Count:
    return _sum(Count(cpu["packets"], cpu["bytes"]) for cpu in cpus or ())


def _sum(counts: Iterable[Count]) -> Count:
    items = list(counts)
    return Count(sum(c.packets for c in items), sum(c.bytes for c in items))
