# SPDX-License-Identifier: Apache-2.0
"""The sync transport. What needs cryptography is imported with the first member, not before."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import trio
from galelb_plugins.sync_gossip.options import GossipOptions, needs_key

from galelb.model import IPAddress, Metric
from galelb.transport import SyncTransport, TransportContext

if TYPE_CHECKING:
    from galelb.group.keys import KeyRing

__all__ = ["SyncGossip"]


class SyncGossip(SyncTransport):
    """Balancers talk to each other directly, over UDP and TCP on load_balancer_port."""

    name = "sync_gossip"
    Options = GossipOptions

    def __init__(self, options: Any, context: TransportContext) -> None:
        super().__init__(options, context)
        from galelb_plugins.sync_gossip.member import Member

        self._member = Member(options, context)

    @classmethod
    def check(cls, options: Any, addresses: Collection[tuple[IPAddress, int]]) -> list[str]:
        """Return whether a key is missing."""
        problem = needs_key(options, {host for host, _ in addresses})
        return [problem] if problem else []

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Join the group and stay in it until cancelled.

        Raises:
            GaleError: the port is in use, or there is no usable key.
        """
        await self._member.run(task_status=task_status)

    def write(self, key: str, value: bytes | None) -> None:
        """Tell all peers a record. Raises LocalProtocolError when it breaks a limit."""
        self._member.write(key, value)

    async def leave(self) -> None:
        """Say goodbye; returns when the group knows, or after 2 s."""
        await self._member.leave()

    @property
    def keys(self) -> KeyRing:
        """The keys of the key file, as of the last reload."""
        return self._member.ring

    def reload(self, options: Any) -> None:
        """Use other times, and the keys that the key file has now.

        Raises:
            GaleError: the key file cannot be used; all goes on as before.
        """
        self._member.reload(options)
        super().reload(options)

    def notes(self) -> list[str]:
        """Return what an operator should know."""
        from galelb_plugins.sync_gossip.figures import notes

        return notes(self._member, self.options)

    def metrics(self) -> list[Metric]:
        """Return datagrams, streams, refusals, members and this member's health."""
        from galelb_plugins.sync_gossip.figures import metrics

        return metrics(self._member)
