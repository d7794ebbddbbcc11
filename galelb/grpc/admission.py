# SPDX-License-Identifier: Apache-2.0
"""Which connections a server takes, and what it remembers of addresses to be fair to others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import structlog

from galelb.grpc.limits import ServerLimits, Share
from galelb.model import IPAddress

__all__ = ["Admission"]

log = structlog.get_logger(__name__)

_CONNECTION_COST_S = 0.0005
"""Charged for each connection: tasks and states of HTTP/2; not all of it is measured."""
_MOST_SHARES = 8192
_MOST_REFUSALS = 1024


class Admission:
    """Counts connections; none of its methods waits."""

    def __init__(self, limits: ServerLimits, make_room: Callable[[], bool]) -> None:
        """`make_room` closes a connection that does nothing, and returns whether there is one."""
        self.count = 0
        self._limits = limits
        self._make_room = make_room
        self._by_address: Counter[IPAddress] = Counter()
        self._shares: dict[IPAddress, Share] = {}
        self._refusals: Counter[tuple[IPAddress, str]] = Counter()

    def enter(self, peer: IPAddress, now: float) -> bool:
        """Take a place for a connection, to be given back by `leave`; False = refuse it."""
        problem = self._problem(peer, now)
        if problem:
            self.refuse(peer, problem)
            return False
        self.count += 1
        self._by_address[peer] += 1
        self.share(peer, now).spend(_CONNECTION_COST_S, now)
        return True

    def leave(self, peer: IPAddress) -> None:
        """Give a place back."""
        self.count -= 1
        self._by_address[peer] -= 1
        if not self._by_address[peer]:
            del self._by_address[peer]

    def share(self, peer: IPAddress, now: float) -> Share:
        """Return the share of an address; those of many strangers are forgotten in time."""
        if peer not in self._shares and len(self._shares) >= _MOST_SHARES:
            self._shares = {a: s for a, s in self._shares.items() if not s.idle(now)}
            if len(self._shares) >= _MOST_SHARES:
                self._shares.clear()
        share = self._shares.get(peer)
        if share is None:
            limits = self._limits
            share = self._shares[peer] = Share(limits.time_share, limits.time_burst)
        return share

    def refuse(self, peer: IPAddress, reason: str) -> None:
        """Log a refusal: the first, second, fourth..., so that a flood cannot flood the log."""
        if len(self._refusals) >= _MOST_REFUSALS:
            self._refusals.clear()
        self._refusals[peer, reason] += 1
        times = self._refusals[peer, reason]
        if times & (times - 1) == 0:
            log.warning("grpc_refused", peer=str(peer), reason=reason, times=times)

    def _problem(self, peer: IPAddress, now: float) -> str:
        if self._by_address[peer] >= self._limits.max_connections_per_address:
            return "it has too many connections"
        share = self._shares.get(peer)
        if share is not None and share.overdrawn(now):
            return "it takes too much time"
        if self.count >= self._limits.max_connections and not self._make_room():
            return "there are too many connections"
        return ""
