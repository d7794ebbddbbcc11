# SPDX-License-Identifier: Apache-2.0
"""Knows which of many nodes has to be looked at next; deadlines mostly move on before they come."""

from __future__ import annotations

import heapq

from galelb.model import IPAddress

__all__ = ["Deadlines"]


class Deadlines:
    """Deadlines by address.

    A node waits in a heap at its deadline or earlier, and is moved on only when its turn comes:
    so a report costs no work here, however many nodes there are.
    """

    def __init__(self) -> None:
        self._dues: dict[IPAddress, float] = {}
        self._heap: list[tuple[float, int, IPAddress]] = []
        self._queued: dict[IPAddress, float] = {}
        """The place in the heap that counts; a node may have later ones that do not."""
        self._count = 0

    def set(self, address: IPAddress, due: float | None) -> None:
        """Set a node's deadline, None = it has none."""
        if due is None:
            self._dues.pop(address, None)
            return
        self._dues[address] = due
        if due < self._queued.get(address, float("inf")):
            self._push(address, due)

    def next(self) -> float | None:
        """Return the earliest deadline."""
        while self._heap:
            at, _, address = self._heap[0]
            if self._queued.get(address) == at == self._dues.get(address):
                return at
            heapq.heappop(self._heap)
            if self._queued.get(address) == at:
                del self._queued[address]
                if (due := self._dues.get(address)) is not None:
                    self._push(address, due)
        return None

    def take(self, now: float) -> list[IPAddress]:
        """Return the nodes whose deadline has come, and forget these deadlines."""
        found = []
        while (due := self.next()) is not None and due <= now:
            _, _, address = heapq.heappop(self._heap)
            del self._queued[address], self._dues[address]
            found.append(address)
        return found

    def _push(self, address: IPAddress, due: float) -> None:
        self._queued[address] = due
        self._count += 1  # two of the same time must not be compared by address
        heapq.heappush(self._heap, (due, self._count, address))
