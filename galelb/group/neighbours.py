# SPDX-License-Identifier: Apache-2.0
"""Tells the neighbours on a network which addresses this balancer has now."""

from __future__ import annotations

import errno
import socket
from collections.abc import Collection, Sequence
from pathlib import Path

import structlog
import trio

from galelb.announcer import Held
from galelb.group.neighbour_packets import announcements
from galelb.group.neighbour_schedule import DELAYS_S, Schedule
from galelb.netlink import Events, LinkChanged, Overflow

__all__ = ["NeighbourAnnouncer", "announce_to_neighbours"]

log = structlog.get_logger(__name__)

_ETHERNET = 1
"""ARPHRD_ETHER: there are no neighbours to tell on any other kind, such as lo."""


def announce_to_neighbours(held: Held) -> None:
    """Send the announcements of one address from its interface, untagged; does not block.

    Raises OSError, also when there is no such interface or it is down.
    """
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    with socket.socket(socket.AF_PACKET, kind, 0) as sock:
        sock.bind((held.interface, 0))
        _, _, _, hardware, mac = sock.getsockname()
        if hardware != _ETHERNET:
            return
        router = held.address.version == 6 and _forwards_ipv6(held.interface)
        for frame in announcements(mac, held.address, router=router):
            sock.send(frame)


class NeighbourAnnouncer:
    """A component that announces addresses by ARP and neighbour discovery (RFC 5227, RFC 4861).

    Each when it is new, with the delays `after_s`; again so when the carrier of its interface
    returns; and every `refresh_s` from then on, 0 = never. There is no way to withdraw: who takes
    an address over announces it.
    """

    def __init__(self, after_s: Sequence[float] = DELAYS_S, refresh_s: float = 0.0) -> None:
        self._schedule = Schedule(after_s, refresh_s)
        self._changed = trio.Event()
        self._failures: dict[Held, str] = {}
        self._down: set[str] = set()

    def announce(self, held: Collection[Held]) -> None:
        """Announce exactly these from now on; never blocks, and may be called before `run`."""
        self._schedule.set(held, trio.current_time())
        self._failures = {one: why for one, why in self._failures.items() if one in held}
        self._changed.set()

    def tune(self, after_s: Sequence[float], refresh_s: float) -> None:
        """Go on with other times, for what is held now from the start."""
        held = self._schedule.held
        self._schedule = Schedule(after_s, refresh_s)
        self.announce(held)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Announce until cancelled. Raises OSError if there can be no sockets at all."""
        events = Events()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._follow_links, events)
                task_status.started()
                while True:
                    await self._once()
        finally:
            events.close()

    def notes(self) -> list[str]:
        """Return what `galelb status` should say, one sentence each."""
        return sorted(
            f"Neighbours on {one.interface} are not told of {one.address}: {why}"
            for one, why in self._failures.items()
        )

    async def _once(self) -> None:
        self._changed = trio.Event()
        for one in self._schedule.take(trio.current_time()):
            self._send(one)
        due = self._schedule.next()
        with trio.move_on_at(float("inf") if due is None else due):
            await self._changed.wait()

    def _send(self, held: Held) -> None:
        try:
            announce_to_neighbours(held)
        except OSError as error:
            # The carrier or the interface returns: then it is announced anew.
            why = str(error.strerror or error)
            if self._failures.get(held) != why:
                where = {"address": str(held.address), "interface": held.interface}
                log.warning("neighbours_not_told", **where, error=why)
            self._failures[held] = why
            if error.errno in (errno.ENODEV, errno.ENETDOWN):
                self._down.add(held.interface)
        else:
            self._failures.pop(held, None)

    async def _follow_links(self, events: Events) -> None:
        async for event in events:
            if isinstance(event, LinkChanged):
                self._link_changed(event)
            elif isinstance(event, Overflow):
                self._again(None)

    def _link_changed(self, event: LinkChanged) -> None:
        if event.removed or not event.up:
            self._down.add(event.name)
        elif event.name in self._down:
            self._down.discard(event.name)
            self._again(event.name)

    def _again(self, interface: str | None) -> None:
        self._schedule.again(interface, trio.current_time())
        self._changed.set()


def _forwards_ipv6(interface: str) -> bool:
    try:
        text = Path("/proc/sys/net/ipv6/conf", interface, "forwarding").read_text()
    except OSError:
        return False
    return text.strip() != "0"
