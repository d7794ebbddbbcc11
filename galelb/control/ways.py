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
    from galelb.model import IPAddress, NextHop, Service

__all__ = ["reach", "vip_way"]


def reach(served: Served, service: Service, node: IPAddress) -> Reach:
    """Return how the node at this address gets the service's packets."""
    forwarder = served.forwarders[service.forwarder]
    if not accepts(service, node, any_family=forwarder.any_family):
        return Reach.NEVER
    with blamed(forwarder.name, "vip_packet"):
        keeps = forwarder.vip_packet(service, b"", node, served.host) is not None
    if not keeps:
        return Reach.ADDRESS
    return Reach.UNSEEN if _source(served, service) is None else Reach.VIP


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

    source, found = _source(served, service), hop(node)
    if source is None:
        raise GaleError(f"no address of ours for answers from {service.vip}")
    if found is None:
        raise GaleError("its link-layer address is not resolved yet")
    return VipWay(source=source, hop=found, wrap=wrap)


def _source(served: Served, service: Service) -> IPAddress | None:
    """Return an address of ours that is no VIP: a node that has the VIP answers to itself."""
    vips = {one.vip for one in served.services.values()}
    for interface in (served.host.private, served.host.public):
        for address in interface.addresses:
            usable = address.version == service.vip.version and not address.is_link_local
            if usable and address not in vips:
                return address
    return None
