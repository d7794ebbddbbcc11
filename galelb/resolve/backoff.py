# SPDX-License-Identifier: Apache-2.0
"""How often something may be tried: doubling waits, and a bounded memory of who tried when."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["Limiter", "backoff_s"]

K = TypeVar("K", bound=Hashable)


def backoff_s(attempts: int, *, first_s: float, most_s: float) -> float:
    """Return the wait after so many failed attempts (1 and up): doubling, bounded."""
    return min(most_s, first_s * 2.0 ** min(max(attempts - 1, 0), 32))


class Limiter(Generic[K]):
    """Lets each key act at growing intervals; a key that was quiet long enough starts anew.

    Remembers the `capacity` keys that acted last, so a flood of new keys cannot fill memory.
    Times are seconds of the caller's monotonic clock.
    """

    def __init__(self, capacity: int, *, first_s: float, most_s: float) -> None:
        self.capacity = capacity
        self.first_s = first_s
        self.most_s = most_s
        self._tried: OrderedDict[K, tuple[int, float]] = OrderedDict()

    def allow(self, key: K, now: float) -> bool:
        """Return whether the key may act now, and count it if so."""
        attempts, not_before = self._tried.get(key, (0, now))
        if now < not_before:
            return False
        if now - not_before > 2 * self.most_s:
            attempts = 0
        wait = backoff_s(attempts + 1, first_s=self.first_s, most_s=self.most_s)
        self._tried[key] = (attempts + 1, now + wait)
        self._tried.move_to_end(key)
        if len(self._tried) > self.capacity:
            self._tried.popitem(last=False)
        return True

    def __len__(self) -> int:
        return len(self._tried)
