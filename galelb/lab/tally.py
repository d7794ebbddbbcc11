# SPDX-License-Identifier: Apache-2.0
"""Counts what clients saw and tells expected failures from unexpected ones; no IO, no clock.

A failure is expected when it overlaps the window of an event, such as the time between the
death of a node and the moment when balancers stopped using it. What is left over is what the
product did wrong.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from typing import Any

import attrs

from galelb.lab.jobs import Result

__all__ = ["EVENTS", "Tally", "Window"]

EVENTS = {
    "node_kill": "node killed",
    "node_return": "node returned",
    "balancer_kill": "balancer lost",
    "balancer_return": "balancer returned",
    "partition": "balancer cut off",
    "heal": "balancer connected",
}
"""Events in their order, as programs and as people call them."""

_ENDS_OF_OUTAGES = ("node_return", "balancer_return", "heal")
_LASTING = ("download", "held")
"""What goes on for long over one connection."""
_MOST_FAILURES = 10_000
_RATE_OVER_S = 2.0


@attrs.define(kw_only=True)
class Window:
    """An event and the time during which it may make requests fail (monotonic seconds)."""

    event: str
    host: str
    start: float
    end: float | None = None
    """None while it lasts."""
    recovered: float | None = None
    """When all was well again; None = not seen yet."""
    moves_flows: bool = False
    """Nobody remembers flows, so some of other nodes' go elsewhere with a new table, and end."""
    young_s: float = 0.0
    """Connections younger than this when it began die with the balancer that made them: the
    others had not heard of them."""

    def covers(self, result: Result) -> bool:
        """Whether the event may have made this one fail."""
        if result.end < self.start or (self.end is not None and result.start > self.end):
            return False
        if result.kind not in _LASTING or not result.node:
            return True
        if 0 <= self.start - result.start <= self.young_s:
            return True
        if self.moves_flows and self._lasts_at(result.end):
            return True
        # What had begun may break only with the node that it went to.
        return result.node == self.host

    def _lasts_at(self, moment: float) -> bool:
        return self.end is None or moment <= self.end


class Tally:
    """What became of all requests, downloads and events so far."""

    def __init__(self, nodes: Iterable[str]) -> None:
        self.per_node: Counter[str] = Counter(dict.fromkeys(nodes, 0))
        self.requests = 0
        self.downloads = 0
        self.held = 0
        self.longest_stall_s = 0.0
        """Of held connections that did not break."""
        self.seen_as: Counter[bool] = Counter({True: 0, False: 0})
        """Answers by whether the node saw the client's own address."""
        self.windows: list[Window] = []
        self._failures: list[Result] = []
        self._overflow = 0
        self._recent: deque[float] = deque(maxlen=100_000)
        self._last_seen: dict[str, float] = {}
        self._answered: dict[str, float] = {}

    def add(self, result: Result) -> None:
        """Count one result."""
        if result.kind == "opened":
            return
        if result.kind == "download":
            self.downloads += 1
        elif result.kind == "held":
            self._add_held(result)
        else:
            self.requests += 1
            self._recent.append(result.end)
        if result.seen_as_itself is not None:
            self.seen_as[result.seen_as_itself] += 1
        if result.error is not None:
            self._add_failure(result)
        elif result.kind == "request":
            self.per_node[result.node] += 1
            self._last_seen[result.node] = result.end
            self._answered[result.target] = max(self.answered_since(result.target), result.start)

    def last_seen(self, node: str) -> float:
        """Return when the node answered a request last; minus infinity when never."""
        return self._last_seen.get(node, float("-inf"))

    def answered_since(self, target: str) -> float:
        """Return when the last request began that an address has answered; minus infinity: none."""
        return self._answered.get(target, float("-inf"))

    def rate(self, now: float) -> float:
        """Return the requests per second of late."""
        while self._recent and self._recent[0] < now - _RATE_OVER_S:
            self._recent.popleft()
        return len(self._recent) / _RATE_OVER_S

    @property
    def dead(self) -> frozenset[str]:
        """Hosts that were killed and have not recovered."""
        dead: set[str] = set()
        for window in self.windows:
            if window.event not in _ENDS_OF_OUTAGES:
                dead.add(window.host)
            elif window.recovered is not None:
                dead.discard(window.host)
        return frozenset(dead)

    def failures_in(self, window: Window) -> list[Result]:
        """Return the failures that this event explains (the first that does takes them)."""
        return [failure for failure in self._failures if self._window_of(failure) is window]

    @property
    def unexplained(self) -> list[Result]:
        """Failures of requests that no event explains."""
        return self._unexplained("request")

    @property
    def broken(self) -> list[Result]:
        """Downloads that failed although their node was not killed."""
        return self._unexplained("download")

    @property
    def broken_held(self) -> list[Result]:
        """Held connections that broke although their node was not killed."""
        return self._unexplained("held")

    @property
    def failures(self) -> int:
        """How many requests, downloads and held connections failed, for whatever reason."""
        return len(self._failures) + self._overflow

    def to_json(self) -> dict[str, Any]:
        """Return the counts and events as `galelb lab demo --json` prints them."""
        events = {window.event: self._event_json(window) for window in self.windows}
        held = {
            "total": self.held,
            "broken": len(self.broken_held),
            "longest_stall_s": round(self.longest_stall_s, 3),
        }
        return {
            "requests": self.requests,
            "failed": len(self.unexplained) + self._overflow,
            "per_node": dict(self.per_node),
            **events,
            "downloads": {"total": self.downloads, "broken": len(self.broken)},
            **({"held": held} if self.held else {}),
        }

    def _event_json(self, window: Window) -> dict[str, Any]:
        failures = self.failures_in(window)
        ends = [failure.end for failure in failures]
        recovered = window.recovered
        if recovered is not None:
            recovered = round(max([recovered, *ends]) - window.start, 3)
        return {"failed": len(failures), "recovered_s": recovered}

    def _add_held(self, result: Result) -> None:
        self.held += 1
        if result.error is None:
            self.longest_stall_s = max(self.longest_stall_s, result.stall_s)

    def _add_failure(self, result: Result) -> None:
        if len(self._failures) < _MOST_FAILURES:
            self._failures.append(result)
        else:
            self._overflow += 1

    def _unexplained(self, kind: str) -> list[Result]:
        return [
            failure
            for failure in self._failures
            if (failure.kind if failure.kind in _LASTING else "request") == kind
            and self._window_of(failure) is None
        ]

    def _window_of(self, failure: Result) -> Window | None:
        return next((window for window in self.windows if window.covers(failure)), None)
