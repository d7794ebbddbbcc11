# SPDX-License-Identifier: Apache-2.0
"""Acts on what programs tell through the ring buffer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import structlog
import trio

from galelb.abi import EventType
from galelb.model import IPAddress
from galelb.packing import address_from_words
from galelb.resolve.next_hops import NextHopTable

__all__ = ["ProgramEvents", "event_address"]

log = structlog.get_logger("galelb.events")


def event_address(event: dict[str, Any]) -> IPAddress:
    """Return the address in a `struct gale_event`."""
    return address_from_words(event["addr"], event["family"])


class ProgramEvents:
    """Resolves neighbours that a program missed and numbers next hops that it found."""

    def __init__(
        self,
        events: Callable[[], AsyncIterator[Any]],
        next_hops: NextHopTable,
        *,
        unresolved: Callable[[IPAddress], None],
        changed: Callable[[], None],
    ) -> None:
        self._events = events
        self._next_hops = next_hops
        self._unresolved = unresolved
        self._changed = changed

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Handle events as they come."""
        task_status.started()
        async for event in self._events():
            if event["type"] == EventType.NO_NEIGHBOUR:
                self._unresolved(event_address(event))
            elif event["type"] == EventType.NEW_NEXT_HOP:
                self._learn(event)

    def _learn(self, event: dict[str, Any]) -> None:
        dmac, smac = bytes(event["mac"]).hex(":"), bytes(event["smac"]).hex(":")
        if self._next_hops.client_hop(event["ifindex"], dmac, smac, event["mtu"]):
            self._changed()
