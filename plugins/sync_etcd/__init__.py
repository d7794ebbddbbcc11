# SPDX-License-Identifier: Apache-2.0
"""sync_etcd: balancers of a group tell each other what they know through etcd."""

from __future__ import annotations

from typing import TYPE_CHECKING

from galelb.hooks import hookimpl

if TYPE_CHECKING:
    from galelb.transport import SyncTransport


@hookimpl
def galelb_register_sync_transports() -> list[type[SyncTransport]]:
    """Register the transport."""
    from galelb_plugins.sync_etcd.plugin import SyncEtcd

    return [SyncEtcd]
