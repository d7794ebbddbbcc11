# SPDX-License-Identifier: Apache-2.0
"""The sync transport: keeps this balancer in etcd, and follows the others there."""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import structlog
import trio
from galelb_plugins.sync_etcd.layout import Layout
from galelb_plugins.sync_etcd.options import EtcdOptions

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
        self._retired: list[Gateway] = []
        self._ring: KeyRing | None = None
        self._trouble: dict[str, str] = {}
        self._failures = 0
        self._keeping = trio.CancelScope()

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Be in etcd until cancelled.

        Raises:
            GaleError: key file or certificates cannot be used.
        """
        self._ring = await trio.to_thread.run_sync(load_ring, self.options.group_key_file)
        self._gateway = _gateway(self.options)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep)
                nursery.start_soon(self._again, "watch", self._follow)
                nursery.start_soon(self._forget)
                task_status.started()
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(1):
                for gateway in (*self._retired, self._gateway):
                    await gateway.close()

    def write(self, key: str, value: bytes | None) -> None:
        """Tell all peers a record. Raises LocalProtocolError when it breaks a limit."""
        self._member.write(key, value)

    async def leave(self) -> None:
        """Delete all that is this balancer's; returns when etcd did, or after 2 s."""
        self._keeping.cancel()
        if self._gateway is None:
            return
        with trio.move_on_after(_LEAVE_S):
            try:
                await self._member.leave(self._gateway)
            except GaleError as error:
                log.warning("etcd was not told that this balancer leaves", error=str(error))

    @property
    def keys(self) -> KeyRing:
        """The keys of the key file, as of the last reload."""
        assert self._ring is not None
        return self._ring

    def reload(self, options: Any) -> None:
        """Use other endpoints, credentials and keys.

        Raises:
            GaleError: they cannot be used, or the prefix is another one.
        """
        if options.prefix != self.options.prefix:
            raise GaleError("sync_etcd: another prefix needs a restart")
        ring, gateway = load_ring(options.group_key_file), _gateway(options)
        if self._gateway is not None:
            self._retired.append(self._gateway)
        self._ring, self._gateway = ring, gateway
        super().reload(options)
        self._watcher.interrupt()

    def notes(self) -> list[str]:
        """Return what is wrong between this balancer and etcd."""
        if not self._trouble:
            return []
        texts = "; ".join(sorted(set(self._trouble.values())))
        return [f"sync_etcd: all stays as it was last agreed, since etcd cannot be used: {texts}"]

    def metrics(self) -> list[Metric]:
        """Return whether etcd can be used, failures, full readings and what was ignored."""
        count = "counter"
        rows = (
            ("galelb_etcd_up", "Whether etcd can be used now.", not self._trouble, "gauge"),
            ("galelb_etcd_failures_total", "Failed requests to etcd.", self._failures, count),
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

    async def _keep(self) -> None:
        with self._keeping:
            await self._again("lease", self._be_there)

    async def _be_there(self, well: Callable[[], None]) -> None:
        assert self._gateway is not None
        ttl = math.ceil(self.options.lease_ttl)
        try:
            await self._member.register(self._gateway, ttl)
            await self._member.stay(self._gateway, ttl, well)
        finally:
            self._watcher.interrupt()

    async def _follow(self, well: Callable[[], None]) -> None:
        assert self._gateway is not None
        await self._watcher.follow(self._gateway, 3 * self.options.lease_ttl + 3, well)

    async def _forget(self) -> None:
        while True:
            await trio.sleep(_FORGET_EACH_S)
            assert self._gateway is not None
            # If etcd cannot be reached, the other tasks say so.
            with contextlib.suppress(GaleError):
                await self._member.forget(self._gateway, self._view.peers())

    async def _again(
        self, task: str, work: Callable[[Callable[[], None]], Awaitable[None]]
    ) -> None:
        """Do something for ever, with longer and longer pauses while it fails."""
        pause = _FIRST_PAUSE_S

        def well() -> None:
            nonlocal pause
            pause = _FIRST_PAUSE_S
            if self._trouble.pop(task, None) is not None and not self._trouble:
                log.info("etcd can be used again")

        while True:
            try:
                await work(well)
            except GaleError as error:
                self._failed(task, str(error))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                # What a stranger that answers like etcd may make of its answers.
                self._failed(task, f"answer not understood ({type(error).__name__})")
            else:
                continue
            # No secret, but not all balancers at once.
            await trio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _failed(self, task: str, text: str) -> None:
        self._failures += 1
        if not self._trouble:
            log.error("etcd cannot be used: all stays as it was last agreed", error=text)
        self._trouble[task] = text


def _gateway(options: EtcdOptions) -> Gateway:
    from galelb_plugins.sync_etcd.gateway import Gateway

    return Gateway(options)
