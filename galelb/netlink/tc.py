# SPDX-License-Identifier: Apache-2.0
"""Attaches programs to clsact hooks so that they replace each other and nobody else's."""

from __future__ import annotations

import errno
from typing import Any, Literal

from pyroute2 import IPRoute

from galelb.errors import AttachError
from galelb.netlink.requests import explained

__all__ = ["Direction", "add_tc", "has_tc", "remove_clsact", "remove_tc"]

Direction = Literal["ingress", "egress"]

PRIORITY = 10
HANDLE = 1
OUR_NAMES = "gale"
"""A filter at our place whose name begins otherwise is not ours."""

_PARENTS: dict[str, int] = {"ingress": 0xFFFFFFF2, "egress": 0xFFFFFFF3}
_ETH_P_ALL = 3
_ABSENT = (errno.ENOENT, errno.EINVAL, errno.ENODEV)


def add_tc(ipr: IPRoute, ifindex: int, program_fd: int, direction: Direction, name: str) -> bool:
    """Attach a classifier in direct-action mode, replacing ours atomically.

    `name` must begin with "gale". Returns whether the clsact qdisc had to be made. Raises
    AttachError when somebody else's filter is in our place, NetlinkError otherwise.
    """
    if not name.startswith(OUR_NAMES):
        raise ValueError(f"the name of a filter of ours begins with {OUR_NAMES!r}, got {name!r}")
    made = _make_clsact(ipr, ifindex)
    foreign = [n for n in _at_our_place(ipr, ifindex, direction) if not n.startswith(OUR_NAMES)]
    if foreign:
        raise AttachError(
            str(ifindex),
            f"tc {direction}",
            f"filter {foreign[0]!r} at priority {PRIORITY} is not ours; move it to another "
            "priority, or detach it",
        )
    with explained(f"attach to interface {ifindex} (tc {direction})"):
        ipr.tc(
            "replace-filter",
            "bpf",
            ifindex,
            handle=HANDLE,
            fd=program_fd,
            name=name,
            parent=_PARENTS[direction],
            direct_action=True,
            prio=PRIORITY,
            protocol=_ETH_P_ALL,
        )
    return made


def has_tc(ipr: IPRoute, ifindex: int, direction: Direction) -> bool:
    """Return whether a filter of ours is attached."""
    return any(n.startswith(OUR_NAMES) for n in _at_our_place(ipr, ifindex, direction))


def remove_tc(ipr: IPRoute, ifindex: int, direction: Direction) -> None:
    """Detach our filter; foreign ones stay. Nothing attached, or no interface, is fine."""
    if not has_tc(ipr, ifindex, direction):
        return
    with explained(f"detach from interface {ifindex} (tc {direction})", fine=_ABSENT):
        ipr.tc(
            "del-filter",
            "bpf",
            ifindex,
            handle=HANDLE,
            parent=_PARENTS[direction],
            prio=PRIORITY,
            protocol=_ETH_P_ALL,
        )


def remove_clsact(ipr: IPRoute, ifindex: int) -> bool:
    """Remove the clsact qdisc if no filter is left in it; return whether it is gone."""
    if any(_filters(ipr, ifindex, direction) for direction in _PARENTS):
        return False
    with explained(f"remove clsact from interface {ifindex}", fine=_ABSENT):
        ipr.tc("del", "clsact", ifindex)
    return True


def _make_clsact(ipr: IPRoute, ifindex: int) -> bool:
    with explained(f"add clsact to interface {ifindex}", fine=(errno.EEXIST,)):
        ipr.tc("add", "clsact", ifindex)
        return True
    return False


def _filters(ipr: IPRoute, ifindex: int, direction: str) -> list[Any]:
    """Return the filters of a hook; a classifier is announced once more without a handle."""
    with explained(f"list filters of interface {ifindex}", fine=_ABSENT):
        found = list(ipr.get_filters(index=ifindex, parent=_PARENTS[direction]))
        return [m for m in found if m["handle"]]
    return []


def _at_our_place(ipr: IPRoute, ifindex: int, direction: str) -> list[str]:
    """Return the names of the filters that a replacement would replace."""
    names = []
    for message in _filters(ipr, ifindex, direction):
        if message["info"] >> 16 == PRIORITY and message["handle"] == HANDLE:
            options = message.get("options")
            name = options.get("TCA_BPF_NAME") if message.get("kind") == "bpf" and options else None
            names.append(name or message.get("kind") or "?")
    return names
