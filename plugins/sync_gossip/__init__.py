# SPDX-License-Identifier: Apache-2.0
"""sync_gossip: balancers tell each other who lives and what they know, without a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from galelb.hooks import hookimpl

if TYPE_CHECKING:
    from galelb.transport import SyncTransport


@hookimpl
def galelb_register_sync_transports() -> list[type[SyncTransport]]:
    """Register the transport."""
    from galelb_plugins.sync_gossip.plugin import SyncGossip

    return [SyncGossip]
