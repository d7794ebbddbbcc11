# SPDX-License-Identifier: Apache-2.0
"""Keeps addresses on interfaces for as long as this balancer lives, and hardly longer."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import structlog
import trio

from galelb.announcer import Held
from galelb.errors import NetlinkError
from galelb.model import IPAddress
from galelb.netlink import Lent, LentState, open_netlink

__all__ = ["LIFETIME_S", "RENEW_S", "AddressHolder", "Lender"]

log = structlog.get_logger(__name__)

LIFETIME_S = 3
"""The kernel takes an address away so long after its last renewal."""
RENEW_S = 1.0
_STOP_S = 2.0

_Place = tuple[str, IPAddress]


class Lender(Protocol):
    """What is needed of `galelb.netlink.Netlink`."""

    async def lend_addresses(self, wanted: Collection[_Place], valid_s: int) -> dict[_Place, Lent]:
        """Put addresses there for so long, or renew them. Raises NetlinkError."""

    async def take_addresses_back(self, lent: Collection[_Place], valid_s: int) -> None:
        """Remove them. Raises NetlinkError."""


class AddressHolder:
    """A component that holds addresses; see `hold`.

    Each is on its interface with a lifetime of `LIFETIME_S` and renewed every `RENEW_S`, so that
    it is gone soon after a daemon that was killed. An address that somebody else put there counts
    as held, and is neither changed nor removed.

    `on_held` is called with all that are really there whenever that changes. One that was gone in
    between is reported as gone first, since neighbours may have learnt of another holder.
    """

    def __init__(
        self,
        on_held: Callable[[frozenset[Held]], None],
        *,
        open_lender: Callable[[], AbstractAsyncContextManager[Lender]] = open_netlink,
    ) -> None:
        self._on_held = on_held
        # A netlink thread of its own: no renewal waits behind what others ask the kernel.
        self._open_lender = open_lender
        self._wanted: dict[_Place, Held] = {}
        self._changed = trio.Event()
        self._ours: set[_Place] = set()
        self._failures: dict[_Place, str] = {}
        self._trouble = ""
        self._renewed_at = 0.0
        self._last: tuple[dict[_Place, Held], dict[_Place, Lent]] | None = None
        """What was wanted last, and what a renewal tells if nothing changes."""
        self.held: frozenset[Held] = frozenset()
        """What is on interfaces now."""

    def hold(self, wanted: Collection[Held]) -> None:
        """Hold exactly these from now on; never blocks, and may be called before `run`."""
        places = {(one.interface, one.address): one for one in wanted}
        if places != self._wanted:
            self._wanted = places
            self._changed.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hold addresses until cancelled; then take away those that it put there."""
        async with self._open_lender() as lender:
            try:
                self._renewed_at = trio.current_time()
                task_status.started()
                while True:
                    await self._once(lender)
            finally:
                with trio.move_on_after(_STOP_S, shield=True):
                    await self._take_back(lender, self._ours)

    def notes(self) -> list[str]:
        """Return what `galelb status` should say, one sentence each."""
        failures = sorted((name, str(a), why) for (name, a), why in self._failures.items())
        notes = [f"{address} is not on {name}: {why}" for name, address, why in failures]
        return notes + ([f"Addresses cannot be renewed: {self._trouble}"] if self._trouble else [])

    async def _once(self, lender: Lender) -> None:
        """Renew all, and wait for the next time or another wish."""
        begun = trio.current_time()
        await self._rest_if_late(begun)
        self._changed = trio.Event()
        await self._take_back(lender, self._ours - self._wanted.keys())
        await self._renew(lender)
        with trio.move_on_at(begun + RENEW_S):
            await self._changed.wait()

    async def _rest_if_late(self, now: float) -> None:
        """Who did not run for so long has lost its addresses, and others may have them.

        The group says within a moment whether they are still wanted; taking them at once would
        turn the neighbours' minds twice.
        """
        if now - self._renewed_at > LIFETIME_S and self.held:
            log.warning("addresses_expired", late_s=round(now - self._renewed_at, 1))
            self._report(frozenset())
            self._last = None
            await trio.sleep(RENEW_S)

    async def _take_back(self, lender: Lender, places: Collection[_Place]) -> None:
        if not places:
            return
        gone = frozenset(held for held in self.held if (held.interface, held.address) in places)
        self._report(self.held - gone)
        try:
            await lender.take_addresses_back(tuple(places), LIFETIME_S)
        except NetlinkError as error:
            log.warning("addresses_not_removed", error=str(error), expire_in_s=LIFETIME_S)
        self._ours -= set(places)

    async def _renew(self, lender: Lender) -> None:
        wanted, begun = self._wanted, trio.current_time()
        try:
            lent = await lender.lend_addresses(tuple(wanted), LIFETIME_S) if wanted else {}
        except NetlinkError as error:
            self._say_trouble(str(error))
            return
        self._say_trouble("")
        self._renewed_at = begun
        if (wanted, lent) == self._last:
            return  # nothing but renewals, as nearly always
        self._last = (wanted, {p: _after(one) for p, one in lent.items()})
        self._ours |= {p for p, one in lent.items() if one.state in _PUT_BY_US}
        self._ours -= {p for p, one in lent.items() if one.state not in _PUT_BY_US}
        self._say_failures({p: one.error for p, one in lent.items() if one.error})
        new = {wanted[p] for p, one in lent.items() if one.state is LentState.NEW}
        self._report(self.held - new)
        self._report(frozenset(wanted[p] for p, one in lent.items() if not one.error))

    def _report(self, held: frozenset[Held]) -> None:
        if held != self.held:
            for one in sorted(held - self.held, key=str):
                log.info("address_held", address=str(one.address), interface=one.interface)
            for one in sorted(self.held - held, key=str):
                log.info("address_gone", address=str(one.address), interface=one.interface)
            self.held = held
            self._on_held(held)

    def _say_failures(self, failures: dict[_Place, str]) -> None:
        for (name, address), why in failures.items():
            if self._failures.get((name, address)) != why:
                log.error("address_not_held", address=str(address), interface=name, error=why)
        self._failures = failures

    def _say_trouble(self, error: str) -> None:
        if error and not self._trouble:
            log.error("addresses_not_renewed", error=error)
        self._trouble = error


def _after(lent: Lent) -> Lent:
    return Lent(LentState.RENEWED) if lent.state is LentState.NEW else lent


_PUT_BY_US = (LentState.NEW, LentState.RENEWED)
