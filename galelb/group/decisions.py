# SPDX-License-Identifier: Apache-2.0
"""What operators decided about nodes, on whichever balancer; the last word holds everywhere.

Every balancer repeats the latest decision that it knows, so that none is lost with the one that
was asked. "Last" is by a counter that grows with each decision that is seen (Lamport, "Time,
Clocks, and the Ordering of Events", 1978), then by name: clocks of machines need not agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from galelb.errors import RemoteProtocolError
from galelb.group.words import Decision

__all__ = ["MAX_DECISIONS", "Decisions"]

MAX_DECISIONS = 1024
"""Nodes; beyond that the oldest decision is forgotten, which leaves the node as it is."""


class Decisions:
    """The latest decision of each node, by address."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._known: dict[str, Decision] = {}
        self._counter = 0
        self._forgotten: list[str] = []

    def __iter__(self) -> Iterator[tuple[str, Decision]]:
        return iter(self._known.items())

    def get(self, node: str) -> Decision | None:
        """Return what was decided of a node, None = nothing."""
        return self._known.get(node)

    def decide(self, node: str, *, draining: bool, weight: int | None) -> Decision:
        """Note what the operator wants here and now; it holds over all that is known."""
        decision = Decision(
            draining=draining, weight=weight, counter=self._counter + 1, by=self._name
        )
        self._keep(node, decision)
        return decision

    def merge(self, node: str, theirs: Decision) -> bool:
        """Take a peer's decision if it is later than ours; return whether it was."""
        self._counter = max(self._counter, theirs.counter)
        ours = self._known.get(node)
        if ours is not None and theirs.rank <= ours.rank:
            return False
        self._keep(node, theirs)
        return True

    def take_forgotten(self) -> list[str]:
        """Return the nodes whose decision was forgotten for another since the last call."""
        forgotten, self._forgotten = self._forgotten, []
        return forgotten

    def dump(self) -> dict[str, str]:
        """Return all as JSON-able data for `load`."""
        return {node: one.pack().decode() for node, one in self._known.items()}

    def load(self, data: Mapping[str, str]) -> None:
        """Take up what an earlier run knew; what cannot be read is left out."""
        for node, packed in data.items():
            try:
                self.merge(str(node), Decision.unpack(str(packed).encode()))
            except RemoteProtocolError:
                continue

    def _keep(self, node: str, decision: Decision) -> None:
        self._counter = max(self._counter, decision.counter)
        self._known[node] = decision
        if len(self._known) > MAX_DECISIONS:
            oldest = min(self._known, key=lambda one: self._known[one].rank)
            del self._known[oldest]
            self._forgotten.append(oldest)
