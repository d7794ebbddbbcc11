# SPDX-License-Identifier: Apache-2.0
"""The sync transport: keeps this balancer in etcd, and follows the others there."""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
import trio
from galelb_plugins.sync_etcd.layout import Layout
from galelb_plugins.sync_etcd.options import EtcdOptions
from galelb_plugins.sync_etcd.trouble import Trouble

from galelb.errors import GaleError
from galelb.group.key_file import load_ring
from galelb.model import Metric
from galelb.transport import SyncTransport, TransportContext

if TYPE_CHECKING:
    from galelb_plugins.sync_etcd.gateway import Gateway

    from galelb.group.keys import KeyRing

__all__ = ["SyncEtcd"]

log = structlog.get_logger(__name__)

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 3.0
_LEAVE_S = 1.9
_FORGET_EACH_S = 600.0
_FAILURES = (GaleError, ValueError, KeyError, TypeError, AttributeError, IndexError)
"""Besides errors of our own, what a stranger that answers like etcd may make of its answers."""


class SyncEtcd(SyncTransport):
    """Balancers talk through etcd, by its v3 API as JSON."""

    name = "sync_etcd"
    Options = EtcdOptions

    def __init__(self, options: Any, context: TransportContext) -> None:
        super().__init__(options, context)
        from galelb_plugins.sync_etcd.member import Member
        from galelb_plugins.sync_etcd.view import View
        from galelb_plugins.sync_etcd.watcher import Watcher

        layout = Layout(options.prefix)
        self._member = Member(context, layout)
        self._view = View(layout, context.name, context.peer_changed, context.record_changed)
        self._watcher = Watcher(layout, self._view)
        self._gateway: Gateway | None = None
        self._made_of: Any = None
        """The options that the gateway was made of."""
        self._ring: KeyRing | None = None
        self._trouble = Trouble(context.name)
        self._session = trio.CancelScope()
        self._resting = trio.Event()
        self._resting.set()
        self._leaving = False

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Be in etcd until cancelled.

        Raises:
            GaleError: key file or certificates cannot be used.
        """
        self._ring = await trio.to_thread.run_sync(load_ring, self.options.group_key_file)
        await self._open()
        task_status.started()
        try:
            await self._work()
        finally:
            with trio.CancelScope(shield=True):
                await self._close()

    def write(self, key: str, value: bytes | None) -> None:
        """Tell all peers a record. Raises LocalProtocolError when it breaks a limit."""
        self._member.write(key, value)

    async def leave(self) -> None:
        """Delete all that is this balancer's; returns when etcd did, or after 2 s."""
        self._leaving = True
        self._session.cancel()
        if self._gateway is None:
            return
        with trio.move_on_after(_LEAVE_S):
            await self._resting.wait()
            try:
                await self._member.leave(self._gateway)
            except GaleError as error:
                log.warning("etcd was not told that this balancer leaves", error=str(error))

    @property
    def keys(self) -> KeyRing:
        """The keys of the key file, as of the last reload."""
        assert self._ring is not None
        return self._ring

    @property
    def deaf(self) -> bool:
        """Whether etcd cannot be used now."""
        return bool(self._trouble.text)

    def reload(self, options: Any) -> None:
        """Use other endpoints, credentials and keys.

        Raises:
            GaleError: they cannot be used, or the prefix is another one.
        """
        if options.prefix != self.options.prefix:
            raise GaleError("sync_etcd: another prefix needs a restart")
        self._ring = load_ring(options.group_key_file)
        super().reload(options)
        self._session.cancel()

    def notes(self) -> list[str]:
        """Return what is wrong between this balancer and etcd."""
        return self._trouble.notes()

    def metrics(self) -> list[Metric]:
        """Return whether etcd can be used, failures, full readings and what was ignored."""
        count = "counter"
        rows = (
            ("galelb_etcd_up", "Whether etcd can be used now.", not self._trouble.text, "gauge"),
            (
                "galelb_etcd_failures_total",
                "Failed requests to etcd.",
                self._trouble.failures,
                count,
            ),
            (
                "galelb_etcd_full_reads_total",
                "Readings of all keys of the group.",
                self._watcher.full_reads,
                count,
            ),
            (
                "galelb_etcd_ignored_total",
                "Keys below the prefix that were not understood.",
                self._view.ignored,
                count,
            ),
        )
        return [
            Metric(name=name, help=text, value=float(value), kind=kind)
            for name, text, value, kind in rows
        ]

    async def _work(self) -> None:
        """Have one session with etcd after the other, with longer pauses while they fail."""
        pause = _FIRST_PAUSE_S
        while not self._leaving:
            self._resting = trio.Event()
            with trio.CancelScope() as self._session:
                problem = await self._one_session()
            self._resting.set()
            if self._session.cancelled_caught:
                continue
            if not self._trouble.text:
                pause = _FIRST_PAUSE_S
            self._trouble.failed(problem)
            # No secret, but not all balancers at once.
            await trio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311
            # After an outage etcd gives each lease its whole time again: be back within that.
            pause = min(2 * pause, _LONGEST_PAUSE_S, self.options.lease_ttl / 3)
        await trio.sleep_forever()

    async def _one_session(self) -> Exception:
        """Read all, be there, follow and write, until one of it fails; returns what failed.

        They stand and fall together: who cannot read what others say should not count as alive.
        """
        problems: list[Exception] = []
        working: set[str] = set()
        ttl = math.ceil(self.options.lease_ttl)
        grace_s = 3 * self.options.lease_ttl + 3

        def well(task: str) -> None:
            working.add(task)
            if len(working) == 2:
                self._trouble.over()

        async def part(work: Callable[..., Awaitable[None]], *args: Any) -> None:
            try:
                await work(*args)
            except _FAILURES as error:
                problems.append(error)
                nursery.cancel_scope.cancel()

        async def begin() -> None:
            await self._open()
            assert self._gateway is not None
            gateway = self._gateway
            await self._watcher.read(gateway, grace_s)
            await self._member.register(gateway, ttl)
            seen = partial(getattr, self._watcher, "revision")
            follow, stay = self._watcher.follow, self._member.stay
            nursery.start_soon(part, follow, gateway, grace_s, partial(well, "watch"))
            nursery.start_soon(part, stay, gateway, ttl, partial(well, "lease"), seen)
            nursery.start_soon(part, self._forget, gateway)

        async with trio.open_nursery() as nursery:
            await part(begin)
        return problems[0]

    async def _forget(self, gateway: Gateway) -> None:
        while True:
            await self._member.forget(gateway, self._view.peers())
            await trio.sleep(_FORGET_EACH_S)

    async def _open(self) -> None:
        """Make a gateway of the options, unless there is one. Raises EtcdError."""
        if self._made_of is self.options:
            return
        from galelb_plugins.sync_etcd.gateway import Gateway

        options = self.options
        gateway = await trio.to_thread.run_sync(Gateway, options)
        await self._close()
        self._gateway, self._made_of = gateway, options

    async def _close(self) -> None:
        if self._gateway is not None:
            with trio.move_on_after(1):
                await self._gateway.close()
