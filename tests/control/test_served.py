# SPDX-License-Identifier: Apache-2.0
"""What the services in force ask of nodes."""

from ipaddress import ip_address

from galelb.control.served import Served
from galelb.forwarder import Forwarder, HostView
from galelb.model import Interface, NodeSetup, Protocol, Service


class Plain(Forwarder):
    name = "plain"

    def plan(self, view, maps):
        return {}


class Direct(Plain):
    name = "direct"

    def node_setups(self, service):
        return (NodeSetup(kind="vip_on_lo", vip=service.vip),)


def service(vip: str, port: int, forwarder: str) -> Service:
    address = ip_address(vip)
    return Service(
        name=f"s{port}",
        vip=address,
        port=port,
        protocol=Protocol.TCP,
        target_port=port,
        forwarder=forwarder,
    )


def served(*services: Service) -> Served:
    interface = Interface(name="eth0", ifindex=2, mac="02:00:00:00:00:01", mtu=1500)
    host = HostView(
        private=interface,
        public=interface,
        ip_local_port_range=(32768, 60999),
        tick_shift=8,
        hz=250,
        flow_seed=1,
    )
    return Served(
        services=dict(enumerate(services, 1)),
        forwarders={"plain": Plain(None), "direct": Direct(None)},
        host=host,
        maps={},
    )


def test_a_forwarder_without_needs_asks_for_nothing():
    assert () == served(service("192.0.2.1", 80, "plain")).node_setups()


def test_a_vip_of_several_services_is_asked_for_once():
    found = served(
        service("2001:db8::1", 80, "direct"),
        service("192.0.2.1", 80, "direct"),
        service("192.0.2.1", 443, "direct"),
        service("192.0.2.9", 80, "plain"),
    ).node_setups()

    vips = [ip_address("192.0.2.1"), ip_address("2001:db8::1")]
    assert tuple(NodeSetup(kind="vip_on_lo", vip=vip) for vip in vips) == found
