# SPDX-License-Identifier: Apache-2.0
"""Puts VIPs on lo so that nobody on the network hears of them, and takes them off again."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import structlog

from galelb.model import IPAddress
from galelb.node.host_needs import LOOPBACK, Need, missing_sysctls, prefix
from galelb.node.host_record import Book
from galelb.node.sysctls import read_sysctl, restore_sysctls, write_sysctls

if TYPE_CHECKING:
    from galelb.netlink import Netlink

__all__ = ["add_vips", "remove_vips"]

log = structlog.get_logger(__name__)


async def remove_vips(
    netlink: Netlink, book: Book, vips: Collection[IPAddress], need: Need
) -> None:
    """Take off what we added except `vips`, and undo sysctls that nothing needs any more.

    Raises NetlinkError, OSError.
    """
    held = book.record
    lo = (await netlink.interface(LOOPBACK)).ifindex
    for vip in [vip for vip in held.vips if vip not in vips]:
        await netlink.del_address(lo, vip, prefix(vip))
        log.info("vip_removed", vip=str(vip))
    kept = tuple(vip for vip in held.vips if vip in vips)
    sysctls = held.sysctls
    if not need.has(4) and not need.tunnels:
        await netlink.call(restore_sysctls, sysctls)
        sysctls = ()
    await book.write(vips=kept, sysctls=sysctls)


async def add_vips(netlink: Netlink, book: Book, vips: Collection[IPAddress], need: Need) -> None:
    """Set sysctls, then add addresses that are missing: nobody may hear of them.

    Raises NetlinkError, OSError.
    """
    sysctls = await netlink.call(lambda: list(missing_sysctls(need, read_sysctl)))
    present = {a for i in (await netlink.interfaces()).values() for a in i.addresses}
    absent = sorted((vip for vip in vips if vip not in present), key=str)
    held = book.record
    ours = {one.name: one for one in (*sysctls, *held.sysctls)}  # the first value is theirs
    new = tuple(vip for vip in absent if vip not in held.vips)
    await book.write(vips=held.vips + new, sysctls=tuple(ours.values()))
    await netlink.call(write_sysctls, sysctls)
    lo = (await netlink.interface(LOOPBACK)).ifindex
    for vip in absent:
        await netlink.add_address(lo, vip, prefix(vip))
        log.info("vip_added", vip=str(vip))
