# SPDX-License-Identifier: Apache-2.0
"""What is known of links and neighbours, and the next hop that follows from it; no I/O."""

from __future__ import annotations

import math
import socket
from collections.abc import Callable, Iterable
from ipaddress import IPv6Network, ip_network

import attrs

from galelb.model import Interface, IPAddress, NextHop
from galelb.netlink.values import (
    LinkChanged,
    Neighbour,
    NeighbourChanged,
    NeighbourState,
    Route,
    RouteChanged,
)
from galelb.resolve.targets import Target

__all__ = ["Neighbourhood", "WatchedNode", "affected_by"]

_LOCAL_TABLE = 255
_IGNORED = (IPv6Network("fe80::/10"), IPv6Network("ff00::/8"))
"""Routes that every new interface brings along; no node or client is behind them."""
_NO_MAC = "00:00:00:00:00:00"


@attrs.define
class WatchedNode:
    """A node whose next hop is kept known; times are seconds of trio's clock."""

    address: IPAddress
    static_mac: str | None
    route: Route | None = None
    target: Target | None = None
    hop: NextHop | None = None
    attempts: int = 0
    """How often in a row nothing was found."""
    look_at: float = -math.inf
    lost_at: float = math.inf
    """When a next hop that no longer follows from what is known is given up."""
    problem: str = "not looked at yet"

    @property
    def is_static(self) -> bool:
        """Whether the configured MAC address is used: not behind a gateway."""
        return self.static_mac is not None and self.route is not None and not self.route.gateway


class Neighbourhood:
    """Links that are up, and usable MAC addresses of neighbours."""

    def __init__(self) -> None:
        self.links: dict[int, Interface] = {}
        self.macs: dict[Target, str] = {}

    def load(self, interfaces: Iterable[Interface], entries: Iterable[Neighbour]) -> None:
        """Replace all that is known."""
        self.links = {interface.ifindex: interface for interface in interfaces}
        self.macs = {(e.ifindex, e.address): e.mac for e in entries if e.mac is not None}

    def neighbour_changed(self, event: NeighbourChanged) -> tuple[bool, str | None]:
        """Take in an event; return whether it matters, and a MAC that turned out wrong.

        An entry that was merely dropped, being old or unused, had no wrong address.
        """
        target = (event.ifindex, event.address)
        old = self.macs.get(target)
        new = None if event.removed else event.mac
        if new == old:
            return False, None
        if new is None:
            del self.macs[target]
        else:
            self.macs[target] = new
        proven = new is not None or event.state is NeighbourState.FAILED
        return True, old if proven else None

    def link_changed(self, event: LinkChanged) -> bool:
        """Take in an event; return whether it matters."""
        old = self.links.get(event.ifindex)
        if event.removed or not event.up:
            return self.links.pop(event.ifindex, None) is not None
        new = Interface(
            name=event.name, ifindex=event.ifindex, mac=event.mac or _NO_MAC, mtu=event.mtu
        )
        self.links[event.ifindex] = new
        return old is None or (old.mac, old.mtu) != (new.mac, new.mtu)

    def find(self, node: WatchedNode) -> NextHop | None:
        """Return the next hop that follows from what is known, or None and say why in `problem`."""
        if node.route is None or node.target is None:
            return None  # looking for the route has said why
        link = self.links.get(node.route.ifindex)
        if link is None:
            node.problem = f"interface {node.route.ifindex} on the way to it is down"
            return None
        mac = node.static_mac if node.is_static else self.macs.get(node.target)
        if mac is None:
            node.problem = f"{node.target[1]} does not answer on {link.name}"
            return None
        node.problem = ""
        mtu = min(node.route.mtu or link.mtu, link.mtu)
        return NextHop(ifindex=link.ifindex, dst_mac=mac, src_mac=link.mac, mtu=mtu)


def affected_by(event: RouteChanged) -> Callable[[IPAddress], bool] | None:
    """Return which addresses may have another route now; None = the event does not matter.

    The kernel's table of its own addresses does not matter.
    """
    if event.table == _LOCAL_TABLE:
        return None
    if event.destination is None:
        version = 4 if event.family == socket.AF_INET else 6
        return lambda address: address.version == version
    network = ip_network((event.destination, event.prefix), strict=False)
    if isinstance(network, IPv6Network) and any(network.subnet_of(n) for n in _IGNORED):
        return None
    return lambda address: address in network
