# SPDX-License-Identifier: Apache-2.0
"""How much of its weight a node gets: a slow start after it returned, less while it is busy.

Shares are percent of the node's weight. Both move in steps, since every step moves flows:

- **Slow start** grows from 5 to 100 % in 20 equal steps. Services whose forwarder keeps no
  flows follow in five steps only (`coarse`), because there a step moves live connections.
- **Load** is runnable tasks per CPU. While the smoothed load is above `BUSY`, and well above the
  mean of all nodes, the share falls one level each `SETTLE_S`: where all are equally busy nobody
  could take over. It rises one level while the load is below `IDLE` or well below the mean; in
  between it stays. A lower share lowers the load itself: both gaps are wider than any step makes
  it fall, so that a step is never taken back because of what it did.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import attrs

__all__ = [
    "BUSY",
    "FULL",
    "IDLE",
    "LEVELS",
    "MAX_WEIGHT",
    "SETTLE_S",
    "LoadShare",
    "MeanLoad",
    "SlowStart",
    "coarse",
]

MAX_WEIGHT = 65_535
FULL = 100
"""Percent."""
_STEPS = 20
_FINE = FULL // _STEPS
_COARSE = 20

LEVELS = (100, 80, 60, 40)
"""Percent of the weight, from an idle node to a busy one: load never takes more than this."""
BUSY = 1.0
IDLE = 0.6
_ABOVE, _BELOW = 1.25, 0.8
"""Well above the mean, and well below it."""
SETTLE_S = 60.0
"""Between two steps: what nodes report is usually an average over a minute."""
_SMOOTH_S = 15.0
_MAX_LOAD = 1000.0
_MEAN_LASTS_S = 1.0


def coarse(share: int) -> int:
    """Return a share of a slow start in five steps instead of twenty, never more than its due."""
    return max(_COARSE, share // _COARSE * _COARSE)


@attrs.define(kw_only=True)
class SlowStart:
    """The slow start of one node; `duration` is that of the configuration, 0 = none.

    Call `begin` when the node may get flows again, then `grow` whenever `due` has come.
    """

    since: float | None = None
    """When it began to get flows; None = it has yet to."""
    step: int = _STEPS

    @property
    def share(self) -> int:
        """Percent, 5 to 100."""
        return self.step * _FINE

    def reset(self) -> None:
        """Note that the node gets no flows and has to begin anew."""
        self.since = None
        self.step = _STEPS

    def begin(self, now: float, *, slowly: bool) -> None:
        """Begin, unless that was done since the last `reset`."""
        if self.since is None:
            self.since = now
            self.step = 1 if slowly else _STEPS

    def resume(self, since: float | None, share: int) -> None:
        """Go on where an earlier run of the balancer was."""
        self.since = since
        self.step = min(max(share // _FINE, 1), _STEPS)

    def finish(self) -> None:
        """Go to the full share at once."""
        self.step = _STEPS

    def due(self, duration: float) -> float | None:
        """Return when the share grows next."""
        if self.since is None or self.step == _STEPS:
            return None
        return self.since + duration * self.step / (_STEPS - 1)

    def grow(self, at: float, duration: float) -> None:
        """Take the step that is due at `at`, if one is."""
        due = self.due(duration)
        if due is not None and due <= at:
            self.step += 1


@attrs.define(kw_only=True)
class LoadShare:
    """What of its weight a node gets by the load that it reports."""

    level: int = 0
    changed_at: float = float("-inf")
    smooth: float | None = None
    """Runnable tasks per CPU, averaged over about 15 s; None = nothing was reported."""
    heard_at: float = float("-inf")

    @property
    def share(self) -> int:
        """Percent, one of `LEVELS`."""
        return LEVELS[self.level]

    def reset(self) -> None:
        """Begin at the full share; the first step comes `SETTLE_S` after the first report."""
        self.level, self.smooth = 0, None

    def resume(self, share: int) -> None:
        """Go on with the level of an earlier run of the balancer."""
        self.level = LEVELS.index(share) if share in LEVELS else 0

    def hear(self, load: float, now: float, mean: float | None = None) -> None:
        """Take in a reported load; one that is no number is ignored.

        `mean` is that of all nodes with flows, None = nothing is known of others.
        """
        if not math.isfinite(load) or load < 0:
            return
        load = min(load, _MAX_LOAD)
        if self.smooth is None:
            self.smooth, self.changed_at = load, now  # one report alone is no reason
        else:
            kept = math.exp(-max(0.0, now - self.heard_at) / _SMOOTH_S)
            self.smooth = self.smooth * kept + load * (1 - kept)
        self.heard_at = now
        if now >= self.changed_at + SETTLE_S:
            self._step(self.smooth, now, mean)

    def _step(self, load: float, now: float, mean: float | None) -> None:
        before = self.level
        if load > BUSY and (mean is None or load > mean * _ABOVE):
            self.level = min(self.level + 1, len(LEVELS) - 1)
        elif load < IDLE or (mean is not None and load < mean * _BELOW):
            self.level = max(self.level - 1, 0)
        if self.level != before:
            self.changed_at = now


class MeanLoad:
    """The mean of loads that change a little with every report; worked out once a second."""

    def __init__(self, loads: Callable[[], Iterable[float]]) -> None:
        self._loads = loads
        self._worked_out_at = float("-inf")
        self._mean: float | None = None

    def at(self, now: float) -> float | None:
        """Return the mean; None = there are not two loads to compare."""
        if now >= self._worked_out_at + _MEAN_LASTS_S:
            loads = list(self._loads())
            self._mean = sum(loads) / len(loads) if len(loads) > 1 else None
            self._worked_out_at = now
        return self._mean
