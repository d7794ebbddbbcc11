# SPDX-License-Identifier: Apache-2.0
"""The forwarder l3_route: what its C is compiled with, and which nodes it can reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from galelb_plugins.l3_route.options import L3RouteOptions
from galelb_plugins.l3_route.outer import Outer, outer_address, outer_bytes, outer_source
from galelb_plugins.l3_route.tunnel import tunnelled

from galelb.errors import GaleError
from galelb.forwarder import Forwarder, ForwardingView, HostView
from galelb.model import IPAddress, NodeSetup, Service

__all__ = ["L3Route"]

_DECAP = {"ipip": "decap_ipip", "gue": "decap_gue"}
_SMALLEST_IPV6_MTU = 1280


class L3Route(Forwarder):
    """Stateless routing to nodes, with or without encapsulation (see README.md)."""

    name = "l3_route"
    Options = L3RouteOptions
    source = Path(__file__).with_name("l3_route.bpf.c")
    supports_tc = True
    wraps = True

    options: L3RouteOptions

    @property
    def any_family(self) -> bool:
        """In a tunnel any family travels to any node."""
        return self._tunnels

    @property
    def _tunnels(self) -> bool:
        return self.options.encap != "none"

    def node_setups(self, service: Service) -> Sequence[NodeSetup]:
        """The VIP is the node's own, and what comes in a tunnel must be taken out of it."""
        setups = [NodeSetup(kind="vip_on_lo", vip=service.vip)]
        if self._tunnels:
            port = self.options.gue_port if self.options.encap == "gue" else 0
            kind = _DECAP[self.options.encap]
            setups.append(NodeSetup(kind=kind, vip=service.vip, port=port))
        return setups

    def vip_packet(
        self, service: Service, packet: bytes, node: IPAddress, host: HostView
    ) -> bytes | None:
        """Return the packet in the tunnel to the node, or as it is. Raises GaleError."""
        if not self._tunnels or not packet:
            return packet
        source = self._sources(host).get(node.version)
        if source is None:
            raise GaleError(_no_source(host, node))
        port = self.options.gue_port if self.options.encap == "gue" else None
        return tunnelled(packet, outer_address(source, node.version, seed=0), node, port)

    def check(self, services: Sequence[Service], host: HostView | None) -> list[str]:
        """Return services that nodes cannot answer."""
        found = [_port_problem(s) for s in services if s.target_port != s.port]
        if host is not None and self._tunnels and not self._sources(host):
            found.append(
                f"interface {host.private.name} has no address that tunnels to nodes could come"
                " from: give it one, or set outer_source in [plugins.l3_route]"
            )
        return found

    def notes(self, services: Sequence[Service], host: HostView) -> list[str]:
        """Return what the way to the nodes is too small for."""
        room = host.private.mtu - outer_bytes(self.options.encap, 4)
        if not self._tunnels or room >= host.public.mtu:
            return []
        note = (
            f"l3_route: clients' packets of more than {room} bytes do not fit into a tunnel on"
            f" {host.private.name} (mtu {host.private.mtu}); senders are told so. Raise its mtu by"
            f" {host.public.mtu - room} to avoid that"
        )
        if room < _SMALLEST_IPV6_MTU and any(s.vip.version == 6 for s in services):
            note += "; IPv6 needs at least 1280 bytes"
        return [note]

    def defines(self, services: Sequence[Service], host: HostView) -> Mapping[str, int | str]:
        """Return the kind of the tunnel and what its packets come from."""
        del services
        numbers: dict[str, int | str] = {}
        if self.options.encap == "gue":
            numbers["L3_ROUTE_GUE"] = self.options.gue_port
        for version, source in self._sources(host).items():
            numbers[f"L3_ROUTE_OUTER_IPV{version}"] = 1
            for at, word in enumerate(source.words):
                numbers[f"L3_ROUTE_SOURCE{version}_{at}"] = f"{word:#x}u"
            numbers[f"L3_ROUTE_VARY{version}"] = f"{source.vary:#x}u"
        return numbers

    def unroutable(self, view: ForwardingView) -> Mapping[int, str]:
        """Return the nodes that no packet of ours finds."""
        if not self._tunnels:
            return _behind_routers(view)
        sources = self._sources(view.host)
        return {
            node.index: _no_source(view.host, node.address)
            for node in view.nodes.values()
            if node.address.version not in sources
        }

    def _sources(self, host: HostView) -> dict[int, Outer]:
        if not self._tunnels:
            return {}
        found = {version: outer_source(self.options, host, version) for version in (4, 6)}
        return {version: source for version, source in found.items() if source is not None}


def _port_problem(service: Service) -> str:
    return (
        f"service {service.name}: target_port {service.target_port} differs from port"
        f" {service.port}, but l3_route changes no ports: leave target_port out"
    )


def _no_source(host: HostView, node: IPAddress) -> str:
    return (
        f"{host.private.name} has no IPv{node.version} address that a tunnel to {node} could come"
        " from: give it one, or set outer_source"
    )


def _behind_routers(view: ForwardingView) -> dict[int, str]:
    return {
        node.index: f"{node.address} is behind the router {node.gateway}, which would send packets"
        ' to the VIP elsewhere: use encap = "ipip" or "gue"'
        for node in view.nodes.values()
        if node.gateway is not None
    }
