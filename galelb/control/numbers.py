# SPDX-License-Identifier: Apache-2.0
"""Which number each node has, and when a number of a node that is gone may go to another."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from ipaddress import ip_address

import structlog

from galelb.control.identity import Numbering
from galelb.errors import GaleError
from galelb.model import IPAddress

__all__ = ["QUIET_S", "RETRY_S", "NodeNumbers"]

log = structlog.get_logger("galelb.numbers")

QUIET_S = 60.0
"""A node must be gone for this long: lookup tables, fragments and packets under way name it."""
RETRY_S = 5.0
"""How soon to look again for a free number while a node waits for one."""
_AT_A_TIME = 64

Release = Callable[[Collection[IPAddress]], Collection[IPAddress]]


class NodeNumbers:
    """Numbers nodes and takes back numbers that nothing holds; no I/O, the caller has a clock."""

    def __init__(self, numbering: Numbering) -> None:
        self._numbering = numbering
        self._absent: dict[str, float] = {}
        """Since when each numbered address has had no node."""
        self.waiting: dict[IPAddress, str] = {}
        """Nodes without a number, and why."""

    def number(self, addresses: Iterable[IPAddress]) -> bool:
        """Give a number to all that have none; returns whether any got one."""
        waiting: dict[IPAddress, str] = {}
        numbered = False
        for address in addresses:
            if self._numbering.get(str(address)) is not None:
                continue
            try:
                self._numbering.number(str(address))
            except GaleError as error:
                waiting[address] = str(error)
            else:
                numbered = True
        if waiting and not self.waiting:
            log.warning("node_numbers_used_up", nodes=len(waiting))
        self.waiting = waiting
        return numbered

    def absent(self, present: Collection[IPAddress], now: float) -> Sequence[IPAddress]:
        """Return some nodes whose numbers may be taken back, if numbers are running short.

        Those asked for come last the next time, so that ones with flows hold up nobody.
        """
        there = {str(address) for address in present}
        self._absent = {
            key: since
            for key in {**self._absent, **self._numbering.known()}
            if key not in there and self._numbering.get(key) is not None
            for since in [self._absent.get(key, now)]
        }
        if self._numbering.spare > self._numbering.limit // 4:
            return ()
        quiet = [key for key, since in self._absent.items() if since + QUIET_S <= now]
        for key in quiet[:_AT_A_TIME]:
            self._absent[key] = self._absent.pop(key)
        return [ip_address(key) for key in quiet[:_AT_A_TIME]]

    def take_back(self, addresses: Iterable[IPAddress]) -> None:
        """Free the numbers of nodes that nothing holds any more."""
        keys = [str(address) for address in addresses]
        self._numbering.release(keys)
        if keys:
            log.info("node_numbers_released", count=len(keys))
