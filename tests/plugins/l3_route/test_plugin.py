# SPDX-License-Identifier: Apache-2.0
"""What l3_route says about configurations, machines and nodes."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from galelb_plugins.l3_route.options import L3RouteOptions
from galelb_plugins.l3_route.outer import outer_address, outer_source
from galelb_plugins.l3_route.plugin import L3Route
from pydantic import ValidationError

from galelb.forwarder import ForwardingView, HostView, PlannedNode
from galelb.model import Interface, NodeSetup, Protocol, Service

ENCAPS = ("ipip", "gue", "none")
TUNNELS = ("ipip", "gue")


def interface(name: str, *addresses: str, mtu: int = 1500) -> Interface:
    own = tuple(ip_address(a) for a in addresses)
    return Interface(name=name, ifindex=2, mac="02:00:00:00:00:01", mtu=mtu, addresses=own)


def host(*private: str, mtu: int = 1500) -> HostView:
    return HostView(
        private=interface("priv", *private, mtu=mtu),
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
        forwarder="l3_route",
    )


def node(index: int, address: str, gateway: str | None = None) -> PlannedNode:
    via = ip_address(gateway) if gateway else None
    return PlannedNode(index=index, address=ip_address(address), gateway=via)


def refused(forwarder: L3Route, machine: HostView, *nodes: PlannedNode) -> dict[int, str]:
    view = ForwardingView(services={1: service()}, nodes={n.index: n for n in nodes}, host=machine)
    return dict(forwarder.unroutable(view))


def forwarder(**options) -> L3Route:
    return L3Route(L3RouteOptions(**options))


# options


@pytest.mark.parametrize(
    ("prefixes", "problem"),
    [
        (["10.0.0.0/8", "10.1.0.0/16"], "at most one IPv4 and one IPv6"),
        (["10.0.0.1/8"], "without host bits"),
        (["224.0.0.0/8"], "cannot come from 224.0.0.0/3"),
        (["0.0.0.0/0"], "cannot come from 0.0.0.0/8"),
        (["128.0.0.0/1"], "cannot come from 169.254.0.0/16"),
        (["255.255.255.255/32"], "cannot come from 224.0.0.0/3"),
        (["fe80::/64"], "cannot come from fe80::/10"),
        (["::ffff:10.0.0.0/104"], "cannot come from ::/8"),
        ([17], "must be a network"),
    ],
)
def test_outer_sources_that_cannot_be(prefixes, problem):
    with pytest.raises(ValidationError, match=problem):
        L3RouteOptions(outer_source=tuple(prefixes))


def test_what_is_shown_can_be_read_again():
    shown = L3RouteOptions(outer_source=("10.200.0.0/16", "fd00:200::/96")).model_dump(mode="json")

    assert ["10.200.0.0/16", "fd00:200::/96"] == shown["outer_source"]


# services and the machine


@pytest.mark.parametrize("encap", ENCAPS)
def test_a_usual_configuration_is_fine(encap):
    one = forwarder(encap=encap)

    assert [] == one.check([service(), service("2001:db8::1")], None)
    assert [] == one.check([service(), service("2001:db8::1")], host("10.0.0.1"))


def test_ports_cannot_be_changed():
    (problem,) = forwarder().check([service(target_port=8080)], None)

    assert problem.startswith("service web: target_port 8080 differs from port 80")


def test_tunnels_need_an_address_to_come_from():
    bare = host("fe80::1")

    (problem,) = forwarder().check([service()], bare)

    assert "interface priv has no address" in problem
    assert [] == forwarder(outer_source=("10.200.0.0/16",)).check([service()], bare)
    assert [] == forwarder(encap="none").check([service()], bare)


@pytest.mark.parametrize(("encap", "room"), [("ipip", 1480), ("gue", 1472)])
def test_a_private_network_that_is_too_small_is_told(encap, room):
    one = forwarder(encap=encap)

    (note,) = one.notes([service()], host("10.0.0.1"))

    assert f"more than {room} bytes" in note
    assert [] == one.notes([service()], host("10.0.0.1", mtu=1600))


def test_without_a_tunnel_there_is_nothing_to_tell():
    assert [] == forwarder(encap="none").notes([service()], host("10.0.0.1"))


# nodes


def test_nodes_are_set_up_for_the_tunnel_in_use():
    vip = ip_address("192.0.2.1")
    own = NodeSetup(kind="vip_on_lo", vip=vip)

    assert [own] == list(forwarder(encap="none").node_setups(service()))
    assert [own, NodeSetup(kind="decap_ipip", vip=vip)] == list(forwarder().node_setups(service()))
    assert [own, NodeSetup(kind="decap_gue", vip=vip, port=6081)] == list(
        forwarder(encap="gue", gue_port=6081).node_setups(service())
    )


@pytest.mark.parametrize("encap", TUNNELS)
def test_a_tunnel_reaches_nodes_behind_routers_and_of_any_family(encap):
    one = forwarder(encap=encap)
    nodes = (node(1, "10.9.0.1", gateway="10.0.0.254"), node(2, "fd00::11"))

    assert {} == refused(one, host("10.0.0.1", "fd00::1"), *nodes)
    assert one.any_family


def test_without_a_tunnel_nodes_behind_routers_are_unroutable():
    one = forwarder(encap="none")
    nodes = (node(1, "10.0.0.11"), node(2, "10.9.0.1", gateway="10.0.0.254"))

    reasons = refused(one, host("10.0.0.1"), *nodes)

    assert [2] == list(reasons)
    assert reasons[2].startswith("10.9.0.1 is behind the router 10.0.0.254")
    assert not one.any_family


def test_a_family_without_an_address_of_ours_is_unroutable():
    reasons = refused(forwarder(), host("10.0.0.1"), node(1, "10.0.0.11"), node(2, "fd00::12"))

    assert [2] == list(reasons)
    assert reasons[2].startswith("priv has no IPv6 address that a tunnel to fd00::12")


# outer sources


@pytest.mark.parametrize("version", [4, 6])
def test_the_private_address_is_the_usual_source(version):
    machine = host("fe80::1", "10.0.0.1", "10.0.0.2", "fd00::1")
    source = outer_source(L3RouteOptions(), machine, version)

    assert source is not None
    seen = {str(outer_address(source, version, seed)) for seed in (0, 1, 0xFFFFFFFF)}
    assert seen == {{4: "10.0.0.1", 6: "fd00::1"}[version]}


@pytest.mark.parametrize(
    ("prefix", "seed", "address"),
    [
        ("10.200.0.0/16", 0xABCD1234, "10.200.18.52"),
        ("10.200.3.4/32", 0xABCD1234, "10.200.3.4"),
        ("fd00:200::/96", 0xABCD1234, "fd00:200::abcd:1234"),
        ("fd00:200::/64", 0xABCD1234, "fd00:200::abcd:1234"),
        ("fd00:200::/120", 0xABCD1234, "fd00:200::34"),
    ],
)
def test_a_network_gives_every_flow_a_source(prefix, seed, address):
    options = L3RouteOptions(outer_source=(prefix,))
    version = ip_address(address).version

    source = outer_source(options, host(), version)

    assert source is not None
    assert address == str(outer_address(source, version, seed))
