# SPDX-License-Identifier: Apache-2.0
"""How many streams others may have open here at a time, so that a flood shuts nobody else out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from galelb.model import IPAddress

__all__ = ["Doors"]


class Doors:
    """Counts open streams by source address.

    Addresses of peers (`is_peer`) have a door of their own: strangers can take all places behind
    the other one, and no packet from elsewhere completes a TCP connection in a peer's name.
    """

    def __init__(
        self, is_peer: Callable[[IPAddress], bool], *, peers: int, strangers: int, per_source: int
    ) -> None:
        self._is_peer = is_peer
        self._room = {True: peers, False: strangers}
        self._per_source = per_source
        self._open: Counter[tuple[bool, IPAddress]] = Counter()

    def enter(self, source: IPAddress) -> tuple[bool, IPAddress] | None:
        """Return what `leave` is to be called with; None when there is no more room."""
        place = self._is_peer(source), source
        inside = sum(count for (door, _), count in self._open.items() if door is place[0])
        if inside >= self._room[place[0]] or self._open[place] >= self._per_source:
            if not self._open[place]:
                del self._open[place]
            return None
        self._open[place] += 1
        return place

    def leave(self, place: tuple[bool, IPAddress]) -> None:
        """Take note that a stream has ended."""
        self._open[place] -= 1
        if not self._open[place]:
            del self._open[place]
