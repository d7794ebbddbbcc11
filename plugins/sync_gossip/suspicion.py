# SPDX-License-Identifier: Apache-2.0
"""Suspicions: time-outs that shrink as others confirm (Lifeguard)."""

from __future__ import annotations

import math

import attrs

__all__ = ["Suspicions"]

_UNCONFIRMABLE = 1.5
"""Shortest time-outs that a suspicion runs which nobody can confirm: that of a pair."""


@attrs.define
class _Suspicion:
    started: float
    least_s: float
    most_s: float
    wanted: int
    accusers: set[str]

    @property
    def deadline(self) -> float:
        """The more have said it independently, the less likely it is the accuser's own fault."""
        if self.wanted < 1:
            return self.started + _UNCONFIRMABLE * self.least_s
        share = math.log(len(self.accusers)) / math.log(self.wanted + 1)
        shrunk = self.most_s - (self.most_s - self.least_s) * share
        return self.started + max(self.least_s, shrunk)


class Suspicions:
    """Who is suspected, by whom, and until when a refutation is waited for."""

    def __init__(self) -> None:
        self._suspicions: dict[str, _Suspicion] = {}

    def start(
        self, name: str, by: str, now: float, *, least_s: float, most_s: float, wanted: int
    ) -> None:
        """Suspect a member, or suspect it anew; `wanted` confirmations give `least_s`."""
        self._suspicions[name] = _Suspicion(now, least_s, most_s, wanted, {by})

    def confirm(self, name: str, by: str) -> bool:
        """Count another accuser; return whether it is one that counts and was not known."""
        suspicion = self._suspicions.get(name)
        if suspicion is None or by in suspicion.accusers:
            return False
        if len(suspicion.accusers) > suspicion.wanted:
            return False
        suspicion.accusers.add(by)
        return True

    def drop(self, name: str) -> None:
        """Suspect a member no longer."""
        self._suspicions.pop(name, None)

    def postpone(self, seconds: float) -> None:
        """Grant everyone more time: this member could not have heard a refutation."""
        for suspicion in self._suspicions.values():
            suspicion.started += seconds

    def expired(self, now: float) -> list[str]:
        """Return who has not refuted in time."""
        return [name for name, one in self._suspicions.items() if one.deadline <= now]

    def next_deadline(self) -> float:
        """Return when the next one expires; infinity without suspicions."""
        return min((one.deadline for one in self._suspicions.values()), default=math.inf)
