# SPDX-License-Identifier: Apache-2.0
"""AnnouncerContract: what every announcer promises, as tests that a plugin's own class inherits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trio

from galelb.announcer import Announcer, AnnouncerContext, Held, HeldKind
from galelb.config.models import BalancerConfig
from galelb.model import Interface

__all__ = ["AnnouncerContract"]

LIMIT_S = 20.0
WITHDRAW_S = 1.0
_STALL_S = 9.0
"""Beside `WITHDRAW_S`: what a busy machine may add."""
VIPS = tuple(
    Held(address=ip_address(address), interface="lo", kind=HeldKind.VIP)
    for address in ("192.0.2.10", "192.0.2.11", "2001:db8::10")
)


class AnnouncerContract:
    """Inherit it in a class whose name starts with Test, and name the announcer.

        class TestContract(AnnouncerContract):
            announcer = MyAnnouncer

    Override `options` for options that tests need, and `announced` to tell what the network has
    heard; None there means that it cannot be told. Each method that begins with test is a test.
    No test needs root.
    """

    announcer: ClassVar[type[Announcer]]

    def options(self, directory: Path) -> Any:
        """Return the options to test with."""
        del directory
        return self.announcer.Options()

    @asynccontextmanager
    async def network(self, directory: Path) -> AsyncIterator[None]:
        """Run what the announcer talks to, such as a daemon; by default nothing."""
        del directory
        yield

    def announced(self, directory: Path) -> frozenset[str] | None:
        """Return the addresses that the network has heard of and that were not withdrawn."""
        del directory
        return None

    def make(self, directory: Path, interfaces: Mapping[str, Interface] | None = None) -> Announcer:
        """Return a new announcer."""
        context = AnnouncerContext(
            config=BalancerConfig.model_construct(),
            directory=directory,
            interfaces=lambda: interfaces or {},
        )
        return self.announcer(self.options(directory), context)

    @asynccontextmanager
    async def running(self, directory: Path) -> AsyncIterator[Announcer]:
        """Run an announcer together with its network."""
        made = self.make(directory)
        with trio.fail_after(LIMIT_S):
            async with self.network(directory), trio.open_nursery() as nursery:
                await nursery.start(made.run)
                yield made
                nursery.cancel_scope.cancel()

    async def heard(self, directory: Path, wanted: frozenset[str]) -> None:
        """Wait until the network has heard of exactly these."""
        while self.announced(directory) not in (None, wanted):  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.01)

    @pytest.mark.trio
    async def test_it_announces_exactly_what_it_was_told(self, tmp_path: Path) -> None:
        """The last call counts; what is not in it any more is withdrawn."""
        async with self.running(tmp_path) as announcer:
            for vips in (VIPS, VIPS[:1], (), VIPS[1:]):
                announcer.announce(vips)
                await self.heard(tmp_path, frozenset(str(vip.address) for vip in vips))

    @pytest.mark.trio
    async def test_it_may_be_told_before_it_runs(self, tmp_path: Path) -> None:
        """What was announced before `run` is announced after it."""
        made = self.make(tmp_path)
        made.announce(VIPS)
        with trio.fail_after(LIMIT_S):
            async with self.network(tmp_path), trio.open_nursery() as nursery:
                await nursery.start(made.run)
                await self.heard(tmp_path, frozenset(str(vip.address) for vip in VIPS))
                nursery.cancel_scope.cancel()

    @pytest.mark.trio
    async def test_it_may_be_told_the_same_again(self, tmp_path: Path) -> None:
        """The core calls whenever anything changed; thousands of calls cost nothing."""
        async with self.running(tmp_path) as announcer:
            for _ in range(2000):
                announcer.announce(list(VIPS))
                announcer.announce(tuple(reversed(VIPS)))
            await self.heard(tmp_path, frozenset(str(vip.address) for vip in VIPS))

    @pytest.mark.trio
    async def test_it_withdraws_all_before_it_returns(self, tmp_path: Path) -> None:
        """After `withdraw` the network knows of nothing any more."""
        async with self.running(tmp_path) as announcer:
            announcer.announce(VIPS)
            await self.heard(tmp_path, frozenset(str(vip.address) for vip in VIPS))

            begun = trio.current_time()
            await announcer.withdraw()
            in_time = trio.current_time() - begun < WITHDRAW_S

            assert self.announced(tmp_path) in (None, frozenset()) or not in_time
            await self.heard(tmp_path, frozenset())

    @pytest.mark.trio
    async def test_it_announces_again_after_it_withdrew(self, tmp_path: Path) -> None:
        """A balancer that gave its VIPs up may get them back."""
        async with self.running(tmp_path) as announcer:
            await announcer.withdraw()
            announcer.announce(VIPS)
            await self.heard(tmp_path, frozenset(str(vip.address) for vip in VIPS))

    @pytest.mark.trio
    async def test_withdrawing_ends_when_nobody_listens(self, tmp_path: Path) -> None:
        """Without a network `withdraw` takes a second at most, and nothing is raised."""
        made = self.make(tmp_path)
        with trio.fail_after(LIMIT_S):
            async with trio.open_nursery() as nursery:
                await nursery.start(made.run)
                made.announce(VIPS)
                with trio.fail_after(WITHDRAW_S + _STALL_S):
                    await made.withdraw()
                nursery.cancel_scope.cancel()

    @pytest.mark.trio
    async def test_an_interface_that_is_missing_is_told_and_not_fatal(self, tmp_path: Path) -> None:
        """A VIP on an interface that is gone for now does not end the balancer."""
        lost = Held(address=VIPS[0].address, interface="gale-none", kind=HeldKind.VIP)
        async with self.running(tmp_path) as announcer:
            announcer.announce([lost])
            await trio.testing.wait_all_tasks_blocked()
            announcer.announce(VIPS)
            await self.heard(tmp_path, frozenset(str(vip.address) for vip in VIPS))

            assert isinstance(announcer.notes(), list)

    @pytest.mark.trio
    async def test_a_reload_with_the_same_options_changes_nothing(self, tmp_path: Path) -> None:
        """What is announced stays announced."""
        async with self.running(tmp_path) as announcer:
            announcer.announce(VIPS)
            await self.heard(tmp_path, frozenset(str(vip.address) for vip in VIPS))

            announcer.reload(self.options(tmp_path), BalancerConfig.model_construct())
            await trio.testing.wait_all_tasks_blocked()

            wanted = frozenset(str(vip.address) for vip in VIPS)
            assert self.announced(tmp_path) in (None, wanted)
