# SPDX-License-Identifier: Apache-2.0
"""A probe under way, pings done for others, and how far this member trusts itself (Lifeguard)."""

from __future__ import annotations

import math

import attrs
from galelb_plugins.sync_gossip.messages import Address

__all__ = ["Health", "Probe", "Relay", "Relays"]


class Health:
    """Lifeguard's local health multiplier: 0 is well, each sign of own trouble adds to it."""

    def __init__(self, worst: int) -> None:
        self._worst = worst
        self.score = 0

    @property
    def factor(self) -> int:
        """What probe intervals and time-outs are multiplied by."""
        return self.score + 1

    def note(self, change: int) -> None:
        """Add to the score, within its bounds."""
        self.score = max(0, min(self._worst, self.score + change))


@attrs.define
class Probe:
    """A probe of one member, from the ping to its Ack or its failure."""

    number: int
    target: str
    helpers_at: float
    """When helpers are asked; infinity once they are."""
    fails_at: float
    asked: int = 0
    nacks: set[str] = attrs.field(factory=set)
    acked: bool = False

    def next_deadline(self) -> float:
        """Return when something is to be done unless an Ack comes."""
        return math.inf if self.acked else min(self.helpers_at, self.fails_at)

    def verdict(self) -> int:
        """Return what the failure says about this member's own health.

        Helpers that did not even send a Nack are a sign that the fault is here.
        """
        return self.asked - len(self.nacks) if self.asked else 1


@attrs.frozen
class Relay:
    """A ping for another member; `number` is the one that it asked with."""

    origin: Address
    number: int
    target: str
    nack_at: float


class Relays:
    """Pings done for others, by the number of our ping; at most `limit`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._relays: dict[int, Relay] = {}

    def add(self, number: int, relay: Relay) -> bool:
        """Remember a relay; return False if there are too many."""
        if len(self._relays) >= self._limit:
            return False
        self._relays[number] = relay
        return True

    def acked(self, number: int, sender: str) -> Relay | None:
        """Return and end the relay that an Ack of `sender` answers."""
        relay = self._relays.get(number)
        if relay is None or relay.target != sender:
            return None
        return self._relays.pop(number)

    def expired(self, now: float) -> list[Relay]:
        """Return and end those for which a Nack is due."""
        late = [number for number, relay in self._relays.items() if relay.nack_at <= now]
        return [self._relays.pop(number) for number in late]

    def next_deadline(self) -> float:
        """Return when the next Nack is due; infinity without relays."""
        return min((relay.nack_at for relay in self._relays.values()), default=math.inf)
