# SPDX-License-Identifier: Apache-2.0
"""Follows what the members write: a full reading, then the changes since."""

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
    """Brings the view up to date, and keeps it so while its stream lasts."""

    def __init__(self, layout: Layout, view: View) -> None:
        self.full_reads = 0
        self.revision = 0
        """Up to which revision of etcd the view is complete."""
        self._layout = layout
        self._view = view
        self._cluster = ""
        self._sure_at = float("-inf")
        """When members that etcd does not name any more are given up; -inf: there are none."""

    async def read(self, gateway: Gateway, grace_s: float) -> None:
        """Read all. Members that are missing are kept for `grace_s`: etcd may have lost its data.

        Raises EtcdError and ValueError.
        """
        entries, header = await read_all(gateway, self._layout.root)
        changes = [read_change(entry) for entry in entries]
        now = trio.current_time()
        waiting = self._sure_at > float("-inf")
        keep = self.full_reads > 0 and (not waiting or now < self._sure_at)
        if not self._view.replace(changes, keep=keep):
            self._sure_at = float("-inf")
        elif not waiting:
            self._sure_at = now + grace_s
        self.full_reads += 1
        self.revision = int(header["revision"])
        self._cluster = str(header.get("cluster_id"))

    async def follow(self, gateway: Gateway, grace_s: float, well: Callable[[], None]) -> None:
        """Take in changes since `read`. Ends only with EtcdError or ValueError; then read again."""
        while True:
            deadline = self._sure_at if self._sure_at > float("-inf") else float("inf")
            with trio.CancelScope(deadline=deadline):
                await self._watch(gateway, well)
            await self.read(gateway, grace_s)

    async def _watch(self, gateway: Gateway, well: Callable[[], None]) -> None:
        def take(answer: dict[str, Any]) -> bool:
            self._take(answer, gateway.endpoint)
            well()  # only an answer shows that etcd is there
            return True

        root = self._layout.root
        request = {"key": encode(root), "range_end": encode(root[:-1] + b"0")}
        request["start_revision"] = str(self.revision + 1)
        await gateway.stream("watch", {"create_request": request}, take)
        raise EtcdError(f"{gateway.endpoint}: the stream of changes ended")

    def _take(self, answer: dict[str, Any], endpoint: str) -> None:
        header = answer.get("header", {})
        revision = int(header.get("revision", 0))
        if str(header.get("cluster_id")) != self._cluster:
            raise EtcdError(f"{endpoint}: is another etcd than before")
        if answer.get("canceled") is True or revision < self.revision:
            raise EtcdError(f"{endpoint}: changes were missed")
        changes = [
            read_change(event["kv"], deleted=event.get("type") == "DELETE")
            for event in answer.get("events", [])
        ]
        self._view.apply(changes)
        if changes:
            self.revision = revision
