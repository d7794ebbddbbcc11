# SPDX-License-Identifier: Apache-2.0
"""The forwarder l2_bridge: which nodes it can reach and what they must be set up for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from galelb.forwarder import Forwarder, ForwardingView, HostView
from galelb.model import IPAddress, NodeSetup, Service

__all__ = ["L2Bridge"]


class L2Bridge(Forwarder):
    """Stateless rewriting of MAC addresses (see README.md)."""

    name = "l2_bridge"
    source = Path(__file__).with_name("l2_bridge.bpf.c")
    supports_tc = True

    def check(self, services: Sequence[Service], host: HostView | None) -> list[str]:
        """Return services that nodes cannot answer."""
        found = [_port_problem(s) for s in services if s.target_port != s.port]
        return found if host is None else [*found, *_address_problems(services, host)]

    def node_setups(self, service: Service) -> Sequence[NodeSetup]:
        """Return that nodes hold the VIP, because packets come to it and are answered from it."""
        return (NodeSetup(kind="vip_on_lo", vip=service.vip),)

    def unroutable(self, view: ForwardingView) -> Mapping[int, str]:
        """Return the nodes behind a router: it would not forward a packet to the VIP to them."""
        return {
            node.index: f"{node.address} is behind the router {node.gateway}, but l2_bridge reaches"
            " only nodes on a network of the balancer's own: use another forwarder"
            for node in view.nodes.values()
            if node.gateway is not None
        }


def _port_problem(service: Service) -> str:
    return (
        f"service {service.name}: target_port {service.target_port} differs from port"
        f" {service.port}, but l2_bridge changes no ports: leave target_port out"
    )


def _address_problems(services: Sequence[Service], host: HostView) -> Iterator[str]:
    """Nodes hold the VIPs, so they cannot report to an address that is one."""
    vips = {service.vip for service in services}
    for version in sorted({vip.version for vip in vips}):
        own = [a for a in host.private.addresses if a.version == version]
        if own and vips.issuperset(own):
            yield _no_address(services, own[0], host)


def _no_address(services: Sequence[Service], vip: IPAddress, host: HostView) -> str:
    name = next(service.name for service in services if service.vip == vip)
    return (
        f"service {name}: vip {vip} is the only IPv{vip.version} address of interface"
        f" {host.private.name}, and nodes, which hold the VIP too, could not report to it:"
        " give the interface one more address"
    )
