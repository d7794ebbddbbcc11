# SPDX-License-Identifier: Apache-2.0
"""Measures how late the balancer's own work runs."""

from __future__ import annotations

import trio

from galelb.metrics import Histogram

__all__ = ["LoopLag"]

INTERVAL_S = 0.25
WINDOW_S = 60.0


class LoopLag:
    """A component that wakes at set times and looks how late it is.

    What keeps it waiting keeps everything else waiting, too: work that blocks, or a machine that
    has no time for us.
    """

    def __init__(self) -> None:
        self.seen = Histogram()
        self._worst = 0.0
        self._worst_before = 0.0
        self._window_ends = float("-inf")

    @property
    def worst(self) -> float:
        """The longest lag in seconds of the last one or two minutes."""
        return max(self._worst, self._worst_before)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look until cancelled."""
        task_status.started()
        while True:
            due = trio.current_time() + INTERVAL_S
            await trio.sleep_until(due)
            now = trio.current_time()
            self._note(now - due, now)

    def _note(self, lag: float, now: float) -> None:
        self.seen.observe(lag)
        if now >= self._window_ends:
            self._worst_before, self._worst = self._worst, 0.0
            self._window_ends = now + WINDOW_S
        self._worst = max(self._worst, lag)
