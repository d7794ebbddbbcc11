# SPDX-License-Identifier: Apache-2.0
"""What is to be checked: probes, services and nodes make targets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import attrs
from galelb_plugins.health_probe.options import Probe

from galelb.model import IPAddress, Protocol, Service
from galelb.sources import Reach

__all__ = ["Target", "targets"]


@attrs.frozen
class Target:
    """One thing to check again and again."""

    node: IPAddress
    probe: Probe
    port: int
    service: Service | None
    """Whose VIP is checked; None = the node's own address."""

    def describe(self) -> str:
        """Return what is checked, for people."""
        address = self.node if self.service is None else self.service.vip
        host = f"[{address}]" if address.version == 6 else str(address)
        return f"{self.probe.type} {'VIP ' if self.service else ''}{host}:{self.port}"

    @property
    def authority(self) -> str:
        """Return what a client would have connected to, as "address:port"."""
        return self.describe().rpartition(" ")[2]


def targets(
    probes: Sequence[Probe],
    services: Iterable[Service],
    nodes: Iterable[IPAddress],
    reach: Callable[[Service, IPAddress], Reach],
) -> dict[Target, tuple[str, ...]]:
    """Return what to check, each with the names of the services that depend on it.

    `reach` tells how a node gets a service's packets. A check at a node's own address and port is
    made once, however many services need it. Packets with a VLAN tag cannot be sent. Where nobody
    could hear the answers from a VIP, the node's own address is better than nothing.
    """
    found: dict[Target, dict[str, None]] = {}
    nodes = tuple(nodes)
    for service in services:
        mine = [(probe, port) for probe in probes if (port := _port(probe, service))]
        for node in nodes if mine else ():
            way = reach(service, node)
            if way is Reach.NEVER or (way is Reach.VIP and service.vlan):
                continue
            for probe, port in mine:
                target = Target(node, probe, port, service if way is Reach.VIP else None)
                found.setdefault(target, {})[service.name] = None
    return {target: tuple(names) for target, names in found.items()}


def _port(probe: Probe, service: Service) -> int | None:
    """Return the port to check for a service; None = this probe is not for it."""
    if probe.services and service.name not in probe.services:
        return None
    if probe.port is None and service.protocol is not Protocol.TCP:
        return None
    return probe.port or service.target_port
