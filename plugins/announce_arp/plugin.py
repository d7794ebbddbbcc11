# SPDX-License-Identifier: Apache-2.0
"""The announcer for networks that the balancers share with clients or with their router."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated, Any

import trio
from pydantic import Field

from galelb.announcer import Announcer, AnnouncerContext, Held
from galelb.config.types import at_least
from galelb.durations import Duration
from galelb.forwarder import Options
from galelb.group.neighbour_schedule import delays
from galelb.group.neighbours import NeighbourAnnouncer

if TYPE_CHECKING:
    from galelb.config import BalancerConfig

__all__ = ["AnnounceArp", "AnnounceArpOptions"]


class AnnounceArpOptions(Options):
    """`[plugins.announce_arp]`."""

    repeat: Annotated[int, Field(ge=1, le=60)] = 4
    """How often a VIP is announced after it was taken: at once, after 0.3, 1.1 and 3 s, then
    every 2 s."""
    refresh: Annotated[Duration, at_least("1s")] = 30.0
    """From one announcement to the next later on: it mends the cache of a neighbour that was
    told otherwise meanwhile."""


class AnnounceArp(Announcer):
    """Gratuitous ARP and unsolicited neighbour advertisements (see README.md)."""

    name = "announce_arp"
    Options = AnnounceArpOptions

    options: AnnounceArpOptions

    def __init__(self, options: Any, context: AnnouncerContext) -> None:
        super().__init__(options, context)
        self._neighbours = NeighbourAnnouncer(delays(options.repeat), options.refresh)

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Announce until cancelled."""
        await self._neighbours.run(task_status=task_status)

    def announce(self, vips: Collection[Held]) -> None:
        """Announce exactly these; those that are new several times."""
        self._neighbours.announce(vips)

    async def withdraw(self) -> None:
        """Announce nothing any more; neighbours hear of it from who takes the VIPs over."""
        self._neighbours.announce(())
        await trio.lowlevel.checkpoint()

    def reload(self, options: Any, config: BalancerConfig) -> None:
        """Go on with other times."""
        if options != self.options:
            self._neighbours.tune(delays(options.repeat), options.refresh)
        super().reload(options, config)

    def notes(self) -> list[str]:
        """Return who cannot be told."""
        return self._neighbours.notes()
