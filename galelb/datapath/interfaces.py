# SPDX-License-Identifier: Apache-2.0
"""Which interfaces a balancer attaches to, and attaching again when one is made anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog
import trio

from galelb.errors import GaleError
from galelb.netlink import LinkChanged, Netlink, Overflow

if TYPE_CHECKING:
    from galelb.config import BalancerConfig
    from galelb.datapath.deployment import Deployment

__all__ = ["InterfaceWatch", "wanted_interfaces"]

log = structlog.get_logger("galelb.interfaces")


def wanted_interfaces(config: BalancerConfig) -> dict[str, str]:
    """Return the role (public, private, both, extra) of each interface by name.

    In the order in which to attach: clients come last, when the answers of nodes are claimed.
    """
    public = config.public_interface.net_interface_public
    private = config.private_interface.net_interface_private
    roles = {private: "private", public: "public"} if public != private else {public: "both"}
    extra = [name for name in config.forwarding.extra_interfaces if name not in roles]
    return dict.fromkeys(extra, "extra") | roles


class InterfaceWatch:
    """Attaches again to an interface that vanished and came back under its name."""

    def __init__(
        self, netlink: Netlink, deployment: Deployment, changed: Callable[[], None]
    ) -> None:
        """`changed` is called when something else is attached than before."""
        self._netlink = netlink
        self._deployment = deployment
        self._attacher = deployment.attacher
        self._changed = changed

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow netlink's events."""
        events = self._netlink.events()
        task_status.started()
        async for event in events:
            if isinstance(event, LinkChanged):
                await self._link_changed(event)
            elif isinstance(event, Overflow):
                await self._look_at_all()

    async def _link_changed(self, event: LinkChanged) -> None:
        if self._attacher.wants(event.name) and not event.removed:
            await self._readdressed()
        if self._attacher.note_link(event.name, event.ifindex, removed=event.removed):
            self._changed()
        if not event.removed:
            await self._check(event.name, event.ifindex)

    async def _look_at_all(self) -> None:
        """Look at every interface, since nobody knows which changes were missed."""
        await self._readdressed()
        for one in (await self._netlink.interfaces()).values():
            self._attacher.note_link(one.name, one.ifindex, removed=False)
            await self._check(one.name, one.ifindex)

    async def _check(self, name: str, ifindex: int) -> None:
        if not self._attacher.wants(name) or self._attacher.is_current(name, ifindex):
            return
        log.warning("interface_came_back", interface=name, ifindex=ifindex)
        try:
            await self._attacher.attach(name, self._deployment.entries)
        except GaleError as error:
            log.error("not_attached", interface=name, reason=str(error))  # noqa: TRY400
        self._changed()

    async def _readdressed(self) -> None:
        """An interface may have another MAC address."""
        try:
            await self._deployment.tell_own_macs()
        except GaleError as error:
            log.error("addresses_not_told", reason=str(error))  # noqa: TRY400 - for users
