# SPDX-License-Identifier: Apache-2.0
"""What the resolver needs of the kernel; `galelb.netlink.Netlink` has it, tests have a fake."""

from __future__ import annotations

from typing import Any, Protocol

from galelb.model import Interface, IPAddress
from galelb.netlink.values import Neighbour, Route

__all__ = ["KernelView"]


class KernelView(Protocol):
    """A part of `Netlink`, with the same meaning and the same NetlinkError."""

    async def route_to(self, address: IPAddress) -> Route:
        """Return the way to an address."""

    async def probe(self, ifindex: int, address: IPAddress, *, keep: bool = True) -> None:
        """Make the kernel resolve a neighbour, and keep it."""

    async def release(self, ifindex: int, address: IPAddress) -> None:
        """Let the kernel forget it."""

    async def neighbours(self) -> list[Neighbour]:
        """Return all neighbours."""

    async def interfaces(self) -> dict[str, Interface]:
        """Return all interfaces by name."""

    def events(self) -> Any:
        """Return a stream of events with a `close` method."""
