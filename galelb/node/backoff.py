# SPDX-License-Identifier: Apache-2.0
"""How long to wait before the next try: exponential with full jitter."""

from __future__ import annotations

import random

__all__ = ["Backoff"]


class Backoff:
    """Waits drawn from 0 to a limit that doubles with every failure; seconds.

    Full jitter, so that nodes that lost a balancer together do not come back together.
    """

    def __init__(
        self, first: float = 0.1, most: float = 5.0, rng: random.Random | None = None
    ) -> None:
        self._first = first
        self._most = most
        self._limit = first
        self._rng = rng or random.Random()  # noqa: S311 - spreads load, keeps no secret

    def next(self) -> float:
        """Return the next wait."""
        wait = self._rng.uniform(0, self._limit)
        self._limit = min(self._most, self._limit * 2)
        return wait

    def cap(self, most: float) -> None:
        """Wait no longer than `most` from now on."""
        self._most = most
        self._limit = min(self._limit, most)

    def reset(self) -> None:
        """Begin again with short waits."""
        self._limit = self._first
