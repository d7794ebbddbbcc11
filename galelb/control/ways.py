# SPDX-License-Identifier: Apache-2.0
"""How packets to a VIP reach one very node, so that its health can be checked there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from galelb.errors import GaleError
from galelb.plugins.blame import blamed
from galelb.services import accepts
from galelb.sources import Reach, VipWay

if TYPE_CHECKING:
    from galelb.control.served import Served
    from galelb.forwarder import HostView
    from galelb.model import IPAddress, NextHop, Service

__all__ = ["reach", "vip_way"]


def reach(served: Served, service: Service, node: IPAddress) -> Reach:
    """Return how the node at this address gets the service's packets."""
    forwarder = served.forwarders[service.forwarder]
    if not accepts(service, node, any_family=forwarder.any_family):
        return Reach.NEVER
    with blamed(forwarder.name, "vip_packet"):
        keeps = forwarder.vip_packet(service, b"", node, served.host) is not None
    return Reach.VIP if keeps else Reach.ADDRESS


def vip_way(
    served: Served,
    service: Service,
    node: IPAddress,
    hop: Callable[[IPAddress], NextHop | None],
) -> VipWay:
    """Return the way to the service's VIP on this node; `hop` returns the next hop of a node.

    Raises GaleError, which says why, when there is none.
    """
    forwarder, host = served.forwarders[service.forwarder], served.host

    def wrap(packet: bytes) -> bytes:
        with blamed(forwarder.name, "vip_packet"):
            return forwarder.vip_packet(service, packet, node, host) or packet

    found = hop(node)
    if found is None:
        raise GaleError("its link-layer address is not resolved yet")
    return VipWay(source=_source(served, service.vip, host), hop=found, wrap=wrap)


def _source(served: Served, vip: IPAddress, host: HostView) -> IPAddress:
    """Return an address of ours that is no VIP: a node that has the VIP answers to itself."""
    vips = {service.vip for service in served.services.values()}
    for interface in (host.private, host.public):
        for address in interface.addresses:
            usable = address.version == vip.version and not address.is_link_local
            if usable and address not in vips:
                return address
    raise GaleError(
        f"no IPv{vip.version} address for nodes to answer checks to, beside VIPs: give one to"
        f" interface {host.private.name}"
    )
