# SPDX-License-Identifier: Apache-2.0
"""What about interfaces and addresses can keep packets away though every program is attached."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import structlog

from galelb.model import Interface, IPAddress, Service

__all__ = ["address_notes", "api_addresses", "veth_notes"]

log = structlog.get_logger("galelb.balancer")


def api_addresses(private: Interface, services: Iterable[Service]) -> tuple[IPAddress, ...]:
    """Return the private addresses without VIPs, which clients reach if one interface does all.

    When there is no other address, the API is where it is expected, and says so.
    """
    vips = {service.vip for service in services}
    addresses = tuple(a for a in private.addresses if a not in vips)
    if not addresses:
        log.warning("api_on_vip", addresses=[str(a) for a in private.addresses])
    return addresses or private.addresses


def veth_notes(interfaces: Iterable[Interface], native: Collection[str]) -> list[str]:
    """Return a note for when nothing is answered and native XDP runs on a veth.

    The kernel gives no error when a veth drops.
    """
    names = dict.fromkeys(one.name for one in interfaces if one.kind == "veth")
    found = [name for name in names if name in native]
    if not found:
        return []
    return [
        "no answer has come from a node yet. A veth drops what XDP sends unless its other end has"
        " GRO on, and hosts behind it must compute checksums: `ethtool -K DEVICE gro on tx off`"
        f" there ({', '.join(found)})"
    ]


def address_notes(interfaces: Iterable[Interface], services: Iterable[Service]) -> list[str]:
    """Return a note for each VIP that none of our interfaces has."""
    own = {address for one in interfaces for address in one.addresses}
    return [
        f"{service.name}: {service.vip} is no address of this machine's interfaces for it, so"
        " nobody answers ARP or neighbour solicitations for it: add it, or route it here"
        for service in services
        if service.vip not in own
    ]
