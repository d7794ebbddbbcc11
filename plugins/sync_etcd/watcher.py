# SPDX-License-Identifier: Apache-2.0
"""Follows what the other members write: one full reading, then the changes since."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio
from galelb_plugins.sync_etcd.gateway import EtcdError, Gateway
from galelb_plugins.sync_etcd.layout import Layout, encode, read_change
from galelb_plugins.sync_etcd.reading import read_all
from galelb_plugins.sync_etcd.view import View

__all__ = ["Watcher"]


class Watcher:
    """Brings the view up to date, from the revision on that it has."""

    def __init__(self, layout: Layout, view: View) -> None:
        self.full_reads = 0
        self._layout = layout
        self._view = view
        self._revision: int | None = None
        self._cluster = ""
        self._unsure = False
        """Whether the view holds members that etcd did not name."""
        self._scope = trio.CancelScope()

    def interrupt(self) -> None:
        """Connect anew: the connection may be dead without a sign."""
        self._scope.cancel()

    async def follow(self, gateway: Gateway, grace_s: float, well: Callable[[], None]) -> None:
        """Read and follow. Returns to be called again; raises EtcdError and ValueError."""
        if self._revision is None:
            await self._read(gateway)
        deadline = trio.current_time() + grace_s if self._unsure else float("inf")
        with trio.CancelScope(deadline=deadline) as self._scope:
            try:
                await self._watch(gateway, well)
            except (ValueError, KeyError, TypeError, AttributeError):
                self._revision = None
                raise
        if trio.current_time() >= deadline:
            self._revision = None

    async def _read(self, gateway: Gateway) -> None:
        entries, header = await read_all(gateway, self._layout.root)
        changes = [read_change(entry) for entry in entries]
        keep = self.full_reads > 0 and not self._unsure
        self._unsure = self._view.replace(changes, keep=keep)
        self.full_reads += 1
        self._revision = int(header["revision"])
        self._cluster = str(header.get("cluster_id"))

    async def _watch(self, gateway: Gateway, well: Callable[[], None]) -> None:
        def take(answer: dict[str, Any]) -> bool:
            more = self._take(answer)
            well()  # only an answer shows that etcd is there
            return more

        assert self._revision is not None
        root = self._layout.root
        request = {"key": encode(root), "range_end": encode(root[:-1] + b"0")}
        request["start_revision"] = str(self._revision + 1)
        await gateway.stream("watch", {"create_request": request}, take)
        if self._revision is None:
            return
        raise EtcdError(f"{gateway.endpoint}: the stream of changes ended")

    def _take(self, answer: dict[str, Any]) -> bool:
        """Take in changes; returns whether to go on."""
        header = answer.get("header", {})
        revision = int(header.get("revision", 0))
        other = str(header.get("cluster_id")) != self._cluster
        assert self._revision is not None
        if answer.get("canceled") is True or other or revision < self._revision:
            self._revision = None  # compacted, or not the etcd that it was
            return False
        changes = [
            read_change(event["kv"], deleted=event.get("type") == "DELETE")
            for event in answer.get("events", [])
        ]
        self._view.apply(changes)
        if changes:
            self._revision = revision
        return True
