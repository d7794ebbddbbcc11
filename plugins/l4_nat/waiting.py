# SPDX-License-Identifier: Apache-2.0
"""Flows of peers that cannot be taken in yet. No I/O here."""

from __future__ import annotations

from collections import deque

import attrs
from galelb_plugins.l4_nat.batch import Batch

__all__ = ["Waiting"]

LIMIT = 1 << 16
"""Flows that wait at most; the oldest ones go first."""
PATIENCE_S = 60.0
"""How long a flow waits for its node or service to become known."""


@attrs.define
class Waiting:
    """Parts of batches, with the times at which they came."""

    flows: int = 0
    lost: int = 0
    """Flows that had to go, ever."""
    _parts: deque[tuple[float, Batch]] = attrs.Factory(deque)

    def add(self, batch: Batch, came: float) -> None:
        """Keep flows that came at some time."""
        if not len(batch.records):
            return
        self._parts.append((came, batch))
        self.flows += len(batch.records)
        while self.flows > LIMIT:
            self._drop()

    def take(self, now: float) -> list[tuple[float, Batch]]:
        """Return all that is still worth trying, and keep nothing of it."""
        while self._parts and now - self._parts[0][0] > PATIENCE_S:
            self._drop()
        found = list(self._parts)
        self._parts.clear()
        self.flows = 0
        return found

    def _drop(self) -> None:
        _, batch = self._parts.popleft()
        self.flows -= len(batch.records)
        self.lost += len(batch.records)
