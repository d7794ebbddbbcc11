# SPDX-License-Identifier: Apache-2.0
"""All talk with the kernel about interfaces, routes and neighbours; the only user of pyroute2."""

from galelb.netlink.events import Events
from galelb.netlink.facade import Netlink, open_netlink
from galelb.netlink.values import (
    AddressChanged,
    Lent,
    LentState,
    LinkChanged,
    Neighbour,
    NeighbourChanged,
    NeighbourState,
    NetlinkEvent,
    Overflow,
    Route,
    RouteChanged,
)

__all__ = [
    "AddressChanged",
    "Events",
    "Lent",
    "LentState",
    "LinkChanged",
    "Neighbour",
    "NeighbourChanged",
    "NeighbourState",
    "Netlink",
    "NetlinkEvent",
    "Overflow",
    "Route",
    "RouteChanged",
    "open_netlink",
]
