# SPDX-License-Identifier: Apache-2.0
"""sticky_bridge: direct server return, and a client meets one node with every connection."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import Field

from galelb.forwarder import Forwarder, ForwardingView, HostView, Options
from galelb.hooks import hookimpl
from galelb.model import NodeSetup, Service


class StickyOptions(Options):
    """The section [plugins.sticky_bridge]; all balancers of a group must have the same."""

    ipv4_prefix: int = Field(32, ge=0, le=32, json_schema_extra={"shared": True})
    """Leading bits of a client's IPv4 address that choose its node."""
    ipv6_prefix: int = Field(64, ge=0, le=128, json_schema_extra={"shared": True})
    """The same for IPv6, where one client has many addresses in one network."""


class StickyBridge(Forwarder):
    """Rewriting of MAC addresses; a client's network alone chooses the node."""

    name = "sticky_bridge"
    source = Path(__file__).with_name("sticky_bridge.bpf.c")
    Options = StickyOptions
    selects_node = True
    supports_tc = True

    def check(self, services: Sequence[Service], host: HostView | None) -> list[str]:
        wrong = [one.name for one in services if one.target_port != one.port]
        return [f"service {name}: no port is changed: leave target_port out" for name in wrong]

    def defines(self, services: Sequence[Service], host: HostView) -> Mapping[str, int | str]:
        return {f"STICKY_{key.upper()}": value for key, value in self.options}

    def node_setups(self, service: Service) -> Sequence[NodeSetup]:
        return (NodeSetup(kind="vip_on_lo", vip=service.vip),)

    def unroutable(self, view: ForwardingView) -> Mapping[int, str]:
        far = [node for node in view.nodes.values() if node.gateway is not None]
        return {node.index: f"{node.address} is behind {node.gateway}, a router" for node in far}


@hookimpl
def galelb_register_forwarders() -> list[type[Forwarder]]:
    return [StickyBridge]
