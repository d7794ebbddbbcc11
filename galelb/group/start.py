# SPDX-License-Identifier: Apache-2.0
"""Makes the group of a running balancer, and starts it."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from galelb.group.group import Group, GroupContext

if TYPE_CHECKING:
    import trio

    from galelb.config import BalancerConfig
    from galelb.control.controller import Controller
    from galelb.control.nodes import NodeDesk
    from galelb.flowshare import FlowShare
    from galelb.model import Interface, IPAddress
    from galelb.netlink import Netlink
    from galelb.plugins import Plugins

__all__ = ["start_group", "tables_digest"]


async def start_group(
    nursery: trio.Nursery,
    *,
    config: BalancerConfig,
    plugins: Plugins,
    desk: NodeDesk,
    netlink: Netlink,
    private: Interface,
    controller: Controller,
    shares: Callable[[], Mapping[str, FlowShare]],
    decisions: Mapping[str, str],
) -> Group:
    """Return the group once this balancer can be met. Raises GaleError when it cannot be."""
    context = GroupContext(
        config=config,
        plugins=plugins,
        desk=desk,
        private=private,
        interfaces=await netlink.interfaces(lent=True),
        permanent=await netlink.lasting_addresses(),
        directory=config.instance.directory,
        version=importlib.metadata.version("galelb"),
        decisions=decisions,
        shares=shares,
        served=lambda: _served(controller),
        tables=lambda: tables_digest(controller),
        plan=controller.wake,
    )
    group = Group(context)
    await nursery.start(group.run)
    group.planned()
    return group


def tables_digest(controller: Controller) -> str:
    """Return a digest of which node each slot of each service names; equal tables, equal digest."""
    lines = []
    for number, service in controller.served.services.items():
        table = controller.tables.table(number)
        lines.append(f"{service.name}={table.digest if table else ''}")
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]


def _served(controller: Controller) -> dict[IPAddress, bool]:
    """Return the VIPs, and whether each has a node for some service."""
    vips: dict[IPAddress, bool] = {}
    for number, service in controller.served.services.items():
        serves = controller.tables.table(number) is not None
        vips[service.vip] = vips.get(service.vip, False) or serves
    return vips
