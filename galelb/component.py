# SPDX-License-Identifier: Apache-2.0
"""What waits is a component: an object that the core runs in a nursery."""

from __future__ import annotations

from typing import Protocol

import trio

__all__ = ["Component"]


class Component(Protocol):
    """Something long-lived that a plugin or the core runs.

    `run` calls `task_status.started()` once it is ready, then works until cancelled. An
    exception that leaves it ends the balancer: catch and log what is not fatal.
    """

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until cancelled."""
