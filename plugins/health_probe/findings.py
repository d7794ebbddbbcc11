# SPDX-License-Identifier: Apache-2.0
"""What becomes of results: a finding per target, and a word per node. No clock, no sockets."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import trio
from galelb_plugins.health_probe.targets import Target

from galelb.model import HealthStatus

__all__ = ["Streak", "Watched", "finding"]

_MOST_NAMES = 3


@attrs.define
class Streak:
    """Results in a row of one target: `rise` good or `fall` bad ones make a finding."""

    rise: int
    fall: int
    passed: bool | None = None
    """The finding; None before the first."""
    reason: str = ""
    """Of the last bad result."""
    _run: int = 0

    def add(self, reason: str) -> bool:
        """Apply a result, "" = good; return whether the finding changed."""
        good = reason == ""
        self.reason = reason or self.reason
        if self.passed is good:
            self._run = 0
            return False
        self._run = max(self._run, 0) + 1 if good else min(self._run, 0) - 1
        if -self._run < self.fall and self._run < self.rise:
            return False
        self.passed, self._run = good, 0
        return True


@attrs.define
class Watched:
    """A target that is checked."""

    services: tuple[str, ...]
    streak: Streak
    hint: str = ""
    """What the node probably lacks, after the reason."""
    scope: trio.CancelScope = attrs.Factory(trio.CancelScope)


def finding(
    watched: Sequence[tuple[Target, Watched]],
) -> tuple[HealthStatus | None, str] | None:
    """Return a node's status (None = nothing is checked) and a text; None = it is too early.

    One bad target is enough for a node to be not serving.
    """
    if not watched:
        return None, "nothing to check"
    bad = [(target, one) for target, one in watched if one.streak.passed is False]
    if bad:
        target, one = bad[0]
        text = f"{_names_text(one.services)}: {target.describe()}: {one.streak.reason}{one.hint}"
        if len(bad) > 1:
            text += f"; {len(bad)} of {len(watched)} checks failed"
        return HealthStatus.NOT_SERVING, text
    if any(one.streak.passed is None for _, one in watched):
        return None
    return HealthStatus.SERVING, f"{len(watched)} checks" if len(watched) > 1 else "1 check"


def _names_text(names: Sequence[str]) -> str:
    """Return services for people, not too many of them."""
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
