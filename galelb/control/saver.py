# SPDX-License-Identifier: Apache-2.0
"""Writes the balancer's state to disk shortly after it changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import structlog
import trio

from galelb.control.state import SavedState, save_state

__all__ = ["StateSaver"]

log = structlog.get_logger("galelb.state")

_SETTLE_S = 0.05
"""Changes come in bursts; one write serves a burst."""
_SHARE = 10
"""With thousands of nodes a write takes long: at most a tenth of the time goes into it."""
_LONGEST_S = 1.0


class StateSaver:
    """Saves what `snapshot` returns after each `wake`; a full disk is logged, not fatal."""

    def __init__(self, directory: Path, snapshot: Callable[[], SavedState]) -> None:
        self._directory = directory
        self._snapshot = snapshot
        self._wanted = trio.Event()
        self._writing = trio.Lock()

    def wake(self) -> None:
        """Ask for the state to be saved soon."""
        self._wanted.set()

    async def save(self) -> None:
        """Save now; one after the other, so that the newest is what stays."""
        async with self._writing:
            try:
                await trio.to_thread.run_sync(save_state, self._directory, self._snapshot())
            except OSError as error:
                log.error("state_not_saved", reason=str(error))  # noqa: TRY400 - for users

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Save after each burst of changes."""
        task_status.started()
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            await trio.sleep(_SETTLE_S)
            started = trio.current_time()
            await self.save()
            await trio.sleep(min(_SHARE * (trio.current_time() - started), _LONGEST_S))
