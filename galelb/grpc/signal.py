# SPDX-License-Identifier: Apache-2.0
"""Wake every task that waits for a change."""

from __future__ import annotations

import trio

__all__ = ["Signal"]


class Signal:
    """A change that tasks wait for; they check what they wait for again when woken."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def notify(self) -> None:
        """Wake all waiting tasks."""
        self._event.set()
        self._event = trio.Event()

    async def wait(self) -> None:
        """Wait for the next `notify`."""
        await self._event.wait()
