# SPDX-License-Identifier: Apache-2.0
"""What was refused, from whom, and when an operator should hear of it."""

from __future__ import annotations

from collections import Counter

import attrs

from galelb.model import IPAddress

__all__ = ["Refusals"]

_RECENT_S = 60.0
_FOREIGN = "has another key than this balancer: compare `galelb group-key show` on both"
_MEANINGS = {
    "unknown_key": _FOREIGN,
    "not_authentic": _FOREIGN,
    "unknown_version": "speaks another version of gossip",
    "too_many_peers": "was refused, since there are too many peers",
    "reflected": "has the name of this balancer: give one of them another name",
}
"""Refusals that need somebody to do something, by reason."""


@attrs.define
class _Latest:
    at: float
    source: IPAddress
    logged_at: float


class Refusals:
    """Counts refusals by reason, and remembers the latest source of each reason."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._latest: dict[str, _Latest] = {}

    @property
    def counts(self) -> Counter[str]:
        """Refusals by reason, since the start."""
        return self._counts

    def note(self, reason: str, source: IPAddress, now: float) -> str | None:
        """Count one; return what the log should say of it, at most once a minute and reason."""
        self._counts[reason] += 1
        if reason not in _MEANINGS:
            return None
        latest = self._latest.setdefault(reason, _Latest(now, source, -_RECENT_S))
        latest.at, latest.source = now, source
        if now < latest.logged_at + _RECENT_S:
            return None
        latest.logged_at = now
        return _MEANINGS[reason]

    def count(self, reason: str) -> None:
        """Count one that says nothing of who sent it."""
        self._counts[reason] += 1

    def notes(self, now: float) -> list[str]:
        """Return what was refused within a minute and needs somebody to do something."""
        recent = {
            _MEANINGS[reason]: one.source
            for reason, one in self._latest.items()
            if one.at > now - _RECENT_S
        }
        return [f"what comes from {source} {meaning}" for meaning, source in recent.items()]
