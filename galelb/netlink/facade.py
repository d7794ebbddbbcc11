# SPDX-License-Identifier: Apache-2.0
"""The netlink of the balancer: async, never blocks trio, speaks in our own values and errors."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from typing import TypeVar

from galelb.model import Interface, IPAddress
from galelb.netlink import addresses, ethtool, requests, tc
from galelb.netlink.events import Events
from galelb.netlink.values import Lent, Neighbour, Route
from galelb.netlink.worker import NetlinkThread

__all__ = ["Netlink", "open_netlink"]

T = TypeVar("T")


class Netlink:
    """Requests to the kernel about the network namespace it was opened in.

    Every method raises NetlinkError when the kernel refuses. A request that is cancelled while
    it runs may still happen.
    """

    def __init__(self, thread: NetlinkThread) -> None:
        self._thread = thread
        self._events: list[Events] = []
        self._our_clsact: set[int] = set()

    async def interface(self, name: str) -> Interface:
        """Return an interface; the error for a missing one names those that exist."""
        return await self._thread.run(lambda ipr: requests.interface(ipr, name))

    async def interfaces(self, *, lent: bool = False) -> dict[str, Interface]:
        """Return all interfaces by name, without IPv6 link-local addresses.

        Those that balancers of a group are lent for some seconds are left out, unless `lent`.
        """
        return await self._thread.run(lambda ipr: requests.interfaces(ipr, lent=lent))

    async def lasting_addresses(self) -> frozenset[IPAddress]:
        """Return the machine's own addresses: those that are not lent for some seconds only."""
        return await self._thread.run(requests.lasting_addresses)

    async def route_to(self, address: IPAddress) -> Route:
        """Return how the kernel would send to an address that is not ours."""
        return await self._thread.run(lambda ipr: requests.route_to(ipr, address))

    async def neighbour(self, ifindex: int, address: IPAddress) -> Neighbour:
        """Return a neighbour; `mac` None and state NONE when the kernel has no entry."""
        return await self._thread.run(lambda ipr: requests.neighbour(ipr, ifindex, address))

    async def neighbours(self) -> list[Neighbour]:
        """Return all neighbours, IPv4 and IPv6."""
        return await self._thread.run(requests.neighbours)

    async def probe(self, ifindex: int, address: IPAddress, *, keep: bool = True) -> None:
        """Make the kernel resolve a neighbour now, without waiting for the answer.

        With `keep` the kernel (5.16 and newer) refreshes the entry from then on until
        `release`: packets that XDP forwards do not keep it alive. Permanent entries stay
        as they are.
        """
        await self._thread.run(lambda ipr: requests.probe(ipr, ifindex, address, keep=keep))

    async def release(self, ifindex: int, address: IPAddress) -> None:
        """End what `probe(keep=True)` began; nothing to end is fine."""
        await self._thread.run(lambda ipr: requests.release(ipr, ifindex, address))

    async def add_address(
        self, ifindex: int, address: IPAddress, prefix: int, valid_lft: int | None = None
    ) -> None:
        """Give an interface an address for `valid_lft` seconds (None: for ever), or renew it.

        An IPv6 address is usable at once (no duplicate address detection).
        """
        await self._thread.run(
            lambda ipr: requests.add_address(ipr, ifindex, address, prefix, valid_lft)
        )

    async def del_address(self, ifindex: int, address: IPAddress, prefix: int) -> None:
        """Take an address away; absent is fine."""
        await self._thread.run(lambda ipr: requests.del_address(ipr, ifindex, address, prefix))

    async def lend_addresses(
        self, wanted: Collection[tuple[str, IPAddress]], valid_s: int
    ) -> dict[tuple[str, IPAddress], Lent]:
        """Put each (interface, address) there for some seconds, or renew it; tell of each.

        What somebody else put there, with another prefix or for longer, is left as it is.
        """
        return await self._thread.run(lambda _: addresses.lend_addresses(wanted, valid_s))

    async def take_addresses_back(
        self, lent: Collection[tuple[str, IPAddress]], valid_s: int
    ) -> None:
        """Remove addresses that were lent for `valid_s`; absent or somebody else's is fine."""
        await self._thread.run(lambda _: addresses.take_addresses_back(lent, valid_s))

    async def add_tc(
        self, ifindex: int, program_fd: int, direction: tc.Direction, name: str
    ) -> bool:
        """Attach a classifier (clsact, direct action), atomically replacing one of ours.

        `name` begins with "gale". Returns whether clsact was made for it: pass that to
        `remove_tc` when another process will detach. Raises AttachError if a foreign filter
        is in the place that we use (priority 10, handle 1).
        """
        made = await self._thread.run(
            lambda ipr: tc.add_tc(ipr, ifindex, program_fd, direction, name)
        )
        if made:
            self._our_clsact.add(ifindex)
        return made

    async def has_tc(self, ifindex: int, direction: tc.Direction) -> bool:
        """Return whether a filter of ours is attached."""
        return await self._thread.run(lambda ipr: tc.has_tc(ipr, ifindex, direction))

    async def remove_tc(
        self, ifindex: int, direction: tc.Direction, *, made_clsact: bool = False
    ) -> None:
        """Detach our filter; foreign filters stay, absent is fine.

        clsact goes too if it is empty and ours: made by this object, or `made_clsact`.
        """
        await self._thread.run(lambda ipr: tc.remove_tc(ipr, ifindex, direction))
        if (made_clsact or ifindex in self._our_clsact) and await self._thread.run(
            lambda ipr: tc.remove_clsact(ipr, ifindex)
        ):
            self._our_clsact.discard(ifindex)

    async def offloads(self, ifname: str) -> dict[str, bool]:
        """Return whether "gro", "lro", "rxvlan" and "tx" (checksums) are on."""
        return await self._thread.run(lambda _: ethtool.offloads(ifname))

    async def set_offloads(self, ifname: str, wanted: Mapping[str, bool]) -> dict[str, bool]:
        """Switch offloads; return the former values of those that changed, to restore them."""
        return await self._thread.run(lambda _: ethtool.set_offloads(ifname, wanted))

    async def call(self, function: Callable[..., T], *arguments: object) -> T:
        """Run another blocking request in the thread that works in this network namespace.

        trio's own worker threads are cached, so they may belong to another namespace.
        """
        return await self._thread.run(lambda _: function(*arguments))

    def events(self) -> Events:
        """Return a stream of events from now on: `async for event in nl.events()`.

        It ends when it or the Netlink is closed. Subscribe before reading state, so that
        nothing falls in between.
        """
        self._events = [e for e in self._events if not e.closed]
        stream = Events()
        self._events.append(stream)
        return stream

    def close_events(self) -> None:
        """End all streams."""
        for stream in self._events:
            stream.close()


@contextlib.asynccontextmanager
async def open_netlink() -> AsyncIterator[Netlink]:
    """Open netlink in the network namespace of this thread; at the end close all it opened."""
    thread = NetlinkThread()
    netlink = Netlink(thread)
    try:
        yield netlink
    finally:
        netlink.close_events()
        await thread.aclose()
