# SPDX-License-Identifier: Apache-2.0
"""Which counters of one sender were seen already (as in RFC 4303, section 3.4.3)."""

from __future__ import annotations

__all__ = ["WINDOW", "ReplayWindow"]

WINDOW = 1024
"""Datagrams that may overtake another: at 40 a second, those of 25 seconds."""


class ReplayWindow:
    """The highest counter seen, and a bit for each of the `WINDOW` up to it."""

    def __init__(self, highest: int = 0) -> None:
        """`highest`: this and all before it are taken for seen."""
        self._highest = highest
        self._seen = (1 << WINDOW) - 1

    def is_new(self, counter: int) -> bool:
        """Whether the counter was not seen, and is not so old that nobody knows."""
        behind = self._highest - counter
        return behind < 0 or (behind < WINDOW and not self._seen >> behind & 1)

    def mark(self, counter: int) -> None:
        """Remember a new counter; only once its datagram has proved authentic."""
        ahead = counter - self._highest
        if ahead >= WINDOW:
            self._seen = 1
        elif ahead > 0:
            self._seen = (self._seen << ahead | 1) & ((1 << WINDOW) - 1)
        else:
            self._seen |= 1 << -ahead
        self._highest = max(self._highest, counter)
