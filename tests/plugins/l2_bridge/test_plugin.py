# SPDX-License-Identifier: Apache-2.0
"""What l2_bridge says about configurations and nodes."""

from __future__ import annotations

from ipaddress import ip_address

from galelb_plugins.l2_bridge.plugin import L2Bridge

from galelb.forwarder import ForwardingView, HostView, Options, PlannedNode
from galelb.model import Interface, Protocol, Service


def interface(name: str, *addresses: str) -> Interface:
    own = tuple(ip_address(a) for a in addresses)
    return Interface(name=name, ifindex=2, mac="02:00:00:00:00:01", mtu=1500, addresses=own)


def host(*private: str) -> HostView:
    return HostView(
        private=interface("priv", *private),
        public=interface("pub", "192.0.2.1"),
        ip_local_port_range=(32768, 60999),
        tick_shift=8,
        hz=250,
        flow_seed=1,
    )


def service(vip: str = "192.0.2.1", *, target_port: int = 80) -> Service:
    return Service(
        name="web",
        vip=ip_address(vip),
        port=80,
        protocol=Protocol.TCP,
        target_port=target_port,
        forwarder="l2_bridge",
    )


def view(*nodes: PlannedNode) -> ForwardingView:
    return ForwardingView(
        services={1: service()}, nodes={n.index: n for n in nodes}, host=host("10.0.0.1")
    )


def node(index: int, address: str, gateway: str | None = None) -> PlannedNode:
    via = ip_address(gateway) if gateway else None
    return PlannedNode(index=index, address=ip_address(address), gateway=via)


def check(services, machine=None) -> list[str]:
    return L2Bridge(Options()).check(services, machine)


def test_a_usual_configuration_is_fine():
    assert [] == check([service()])
    assert [] == check([service()], host("10.0.0.1"))


def test_ports_cannot_be_changed():
    (problem,) = check([service(target_port=8080)])

    assert problem.startswith("service web: target_port 8080 differs from port 80")
    assert problem.endswith("leave target_port out")


def test_nodes_need_an_address_to_report_to_that_is_no_vip():
    (problem,) = check([service("10.0.0.1")], host("10.0.0.1", "fd00::1"))

    assert "vip 10.0.0.1 is the only IPv4 address of interface priv" in problem


def test_a_vip_beside_the_private_address_is_fine():
    assert [] == check([service("10.0.0.100")], host("10.0.0.1", "10.0.0.100"))


def test_nodes_behind_a_router_are_unroutable():
    reasons = L2Bridge(Options()).unroutable(
        view(node(1, "10.0.0.11"), node(2, "10.9.0.1", gateway="10.0.0.254"))
    )

    assert [2] == list(reasons)
    assert reasons[2].startswith("10.9.0.1 is behind the router 10.0.0.254")
