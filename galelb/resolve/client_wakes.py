# SPDX-License-Identifier: Apache-2.0
"""Has the kernel resolve the way back to clients when a program found no neighbour there."""

from __future__ import annotations

import structlog
import trio

from galelb.errors import NetlinkError
from galelb.model import IPAddress
from galelb.resolve.backoff import Limiter
from galelb.resolve.kernel_view import KernelView

__all__ = ["ClientWakes"]

log = structlog.get_logger()

CLIENTS = 1024
PER_PASS = 16
"""A crowd of clients must not keep nodes waiting."""
FIRST_S = 0.2
MOST_S = 8.0


class ClientWakes:
    """Takes addresses in as they come and asks for each at growing intervals; bounded."""

    def __init__(self, kernel: KernelView) -> None:
        self._kernel = kernel
        self._limiter: Limiter[IPAddress] = Limiter(CLIENTS, first_s=FIRST_S, most_s=MOST_S)
        self._waiting: set[IPAddress] = set()

    def wake(self, address: IPAddress) -> bool:
        """Take in a client without a neighbour; return whether `serve` has something to do."""
        if len(self._waiting) < CLIENTS and self._limiter.allow(address, trio.current_time()):
            self._waiting.add(address)
        return bool(self._waiting)

    @property
    def waiting(self) -> int:
        """How many clients were not asked for yet."""
        return len(self._waiting)

    async def serve(self) -> None:
        """Ask for some of those that wait."""
        for _ in range(min(len(self._waiting), PER_PASS)):
            await self._ask(self._waiting.pop())

    async def _ask(self, address: IPAddress) -> None:
        try:
            route = await self._kernel.route_to(address)
            # A gateway serves many clients, so it is kept; a lone client is not.
            await self._kernel.probe(
                route.ifindex, route.gateway or address, keep=route.gateway is not None
            )
        except NetlinkError as error:
            log.debug("client_not_resolved", address=str(address), error=str(error))
