# SPDX-License-Identifier: Apache-2.0
"""Which of a client's addresses to use next: in turn, dead ones only when all are dead."""

from __future__ import annotations

from collections.abc import Sequence

from galelb.lab.http_client import Target

__all__ = ["DEAD_CAUSES", "TargetSet"]

DEAD_CAUSES = frozenset({"connect_timeout", "unreachable"})
"""Failures that mean that the machine with the address is gone."""


class TargetSet:
    """The addresses of a service as one client sees them.

    One that is dead is left out until `alive` is called; finding that out is the business of
    a probe, so that no request is spent on it.
    """

    def __init__(self, targets: Sequence[Target]) -> None:
        self._targets = list(targets)
        self._dead: set[Target] = set()
        self._turn = 0

    def next(self) -> Target:
        """Return the address for the next connection."""
        usable = [target for target in self._targets if target not in self._dead] or self._targets
        self._turn += 1
        return usable[self._turn % len(usable)]

    def failed(self, target: Target, cause: str) -> None:
        """Take note of a failure; only those that mean a dead machine count."""
        if cause in DEAD_CAUSES and len(self._targets) > 1:
            self._dead.add(target)

    def alive(self, target: Target) -> None:
        """Use an address again."""
        self._dead.discard(target)

    @property
    def dead(self) -> tuple[Target, ...]:
        """The addresses to probe."""
        return tuple(self._dead)
