# SPDX-License-Identifier: Apache-2.0
"""When a balancer may have addresses: once it knows what the others know."""

from __future__ import annotations

from galelb.group.quorum import Standing

__all__ = ["MEETING_S", "Joining"]

MEETING_S = 3.0
"""How long who joins waits to meet all configured balancers before it takes addresses."""


class Joining:
    """Who starts, or comes back from a cut, has to learn first; who is ready stays ready."""

    def __init__(self, now: float) -> None:
        self._since = now
        self._learning = True

    def ready(self, standing: Standing, now: float, *, complete: bool, everyone: bool) -> bool:
        """Return whether it may have addresses.

        `complete`: it has a copy of the flows of all live peers; `everyone`: all configured
        balancers live, so that there is nobody to wait for.
        """
        if standing is not Standing.QUORATE:
            self._since, self._learning = now, True
        elif complete and (everyone or now >= self._since + MEETING_S):
            self._learning = False
        return not self._learning
