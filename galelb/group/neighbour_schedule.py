# SPDX-License-Identifier: Apache-2.0
"""When to tell neighbours of which address."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from galelb.announcer import Held

__all__ = ["DELAYS_S", "Schedule", "delays"]

DELAYS_S = (0.0, 0.3, 1.1, 3.0)
"""After an address was taken. Neighbours may ignore updates of an entry for a second, and a frame
may get lost; these come before the retries of a TCP connection that waits (0.6, 1.4, 3 s)."""
_LATER_S = 2.0


def delays(repeat: int) -> tuple[float, ...]:
    """Return so many delays: those of `DELAYS_S`, then one more every 2 s."""
    later = (DELAYS_S[-1] + _LATER_S * n for n in range(1, repeat - len(DELAYS_S) + 1))
    return (*DELAYS_S[:repeat], *later)


class Schedule:
    """Which addresses are to be announced next; knows no clock."""

    def __init__(self, after_s: Sequence[float] = DELAYS_S, refresh_s: float = 0.0) -> None:
        """`after_s` rises; `refresh_s` is from one later announcement to the next, 0 = none."""
        self._after_s = tuple(after_s)
        self._refresh_s = refresh_s
        self._rounds: dict[Held, tuple[float, int]] = {}
        """When each was taken, and how many of its announcements were made."""

    @property
    def held(self) -> frozenset[Held]:
        """What is to be announced."""
        return frozenset(self._rounds)

    def set(self, held: Collection[Held], now: float) -> None:
        """Announce exactly these; those that are new, from the start."""
        self._rounds = {one: self._rounds.get(one, (now, 0)) for one in held}

    def again(self, interface: str | None, now: float) -> None:
        """Begin anew with those on an interface, None = on all of them."""
        for one in self._rounds:
            if interface in (None, one.interface):
                self._rounds[one] = (now, 0)

    def next(self) -> float | None:
        """Return when `take` has something; None = never as it is."""
        dues = (self._due(*state) for state in self._rounds.values())
        return min((due for due in dues if due is not None), default=None)

    def take(self, now: float) -> list[Held]:
        """Return those to announce now, each once however late it is."""
        found = []
        for one, (since, done) in self._rounds.items():
            due = self._due(since, done)
            if due is not None and due <= now:
                found.append(one)
                self._rounds[one] = (since, self._passed(since, done, now))
        return found

    def _due(self, since: float, done: int) -> float | None:
        if done < len(self._after_s):
            return since + self._after_s[done]
        if not self._refresh_s:
            return None
        return since + self._after_s[-1] + self._refresh_s * (done - len(self._after_s) + 1)

    def _passed(self, since: float, done: int, now: float) -> int:
        while (due := self._due(since, done)) is not None and due <= now:
            done += 1
        return done
