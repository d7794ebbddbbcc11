# SPDX-License-Identifier: Apache-2.0
"""The members that are known, and whose turn it is to be probed."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Container, Iterator

import attrs
from galelb_plugins.sync_gossip.messages import Claim, State

__all__ = ["Members"]

_LIVE = (State.ALIVE, State.SUSPECT)


@attrs.define
class _Member:
    claim: Claim
    since: float
    returned: float = -math.inf
    """When it came back from the dead."""


class Members:
    """The highest claim on each other member; at most `limit` of them.

    Merging takes the maximum by rank, so the order in which claims come does not matter.
    """

    def __init__(self, limit: int, rng: random.Random) -> None:
        self._limit = limit
        self._rng = rng
        self._members: dict[str, _Member] = {}
        self._live: list[Claim] = []
        self._round: list[str] = []
        self._urgent: deque[str] = deque(maxlen=limit)

    def __iter__(self) -> Iterator[Claim]:
        return (member.claim for member in self._members.values())

    def get(self, name: str) -> Claim | None:
        """Return the claim that holds on a member, None if it is not known."""
        member = self._members.get(name)
        return member.claim if member else None

    def put(self, claim: Claim, now: float) -> None:
        """Let a claim hold; there must be room."""
        assert self.has_room(claim.name)
        before = self._members.get(claim.name)
        returned = before.returned if before else -math.inf
        if before and before.claim.state is State.DEAD and claim.state in _LIVE:
            returned = now
        self._members[claim.name] = _Member(claim, now, returned)
        self._changed()

    def returned(self, name: str) -> float:
        """Return when a member came back from the dead; minus infinity: never."""
        member = self._members.get(name)
        return member.returned if member else -math.inf

    def has_room(self, name: str) -> bool:
        """Return whether a claim on that member can be kept."""
        return name in self._members or len(self._members) < self._limit

    def longest_gone(self) -> str | None:
        """Return who makes room for another: the one that is gone for longest, None if all live."""
        gone = (one for one in self._members.values() if one.claim.state not in _LIVE)
        first = min(gone, key=lambda one: one.since, default=None)
        return first.claim.name if first else None

    def live(self) -> list[Claim]:
        """Return the others that are alive or suspect."""
        return self._live

    def gone(self) -> list[Claim]:
        """Return the others that are dead."""
        return [claim for claim in self if claim.state is State.DEAD]

    def pick(self, count: int, but: Container[str] = ()) -> list[Claim]:
        """Return up to `count` random live members."""
        choice = [claim for claim in self._live if claim.name not in but]
        return self._rng.sample(choice, min(count, len(choice)))

    def probe_next(self, name: str) -> None:
        """Give a member the next turn: to hear of its suspicion, or to confirm it."""
        if name not in self._urgent:
            self._urgent.append(name)

    def next_target(self) -> Claim | None:
        """Return whose turn it is; in each round everyone has one, in a new order.

        So a member is probed at least once in 2n - 1 periods (SWIM's round-robin).
        """
        for _ in range(2):
            while self._urgent or self._round:
                name = self._urgent.popleft() if self._urgent else self._round.pop()
                claim = self.get(name)
                if claim is not None and claim.state in _LIVE:
                    return claim
            self._round = [claim.name for claim in self._live]
            self._rng.shuffle(self._round)
        return None

    def forgettable(self, before: float) -> list[str]:
        """Return who has been gone since before that time."""
        old = (one for one in self._members.values() if one.since < before)
        return [one.claim.name for one in old if one.claim.state not in _LIVE]

    def forget(self, name: str) -> None:
        """Know nothing more of a member."""
        del self._members[name]
        self._changed()

    def _changed(self) -> None:
        self._live = [claim for claim in self if claim.state in _LIVE]
