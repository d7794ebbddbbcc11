# SPDX-License-Identifier: Apache-2.0
"""How nodes get packets, and how a VIP on one of them is reached."""

from ipaddress import ip_address
from pathlib import Path

import pytest

from galelb.control.served import Served
from galelb.control.ways import reach, vip_way
from galelb.errors import GaleError, PluginError
from galelb.forwarder import Forwarder, HostView
from galelb.model import Interface, NextHop, NodeSetup, Protocol, Service
from galelb.sources import Reach

NODE = ip_address("10.0.0.9")
HOP = NextHop(ifindex=3, dst_mac="02:00:00:00:00:09", src_mac="02:00:00:00:00:01", mtu=1500)


class Translating(Forwarder):
    name = "translating"
    source = Path("none.bpf.c")


class Direct(Translating):
    name = "direct"

    def node_setups(self, service):
        return (NodeSetup(kind="vip_on_lo", vip=service.vip),)


class Wrapping(Direct):
    name = "wrapping"
    any_family = True

    def vip_packet(self, service, packet, node, host):
        return b"outer" + packet if packet else packet


class Buggy(Direct):
    name = "buggy"

    def vip_packet(self, service, packet, node, host):
        raise ValueError("a bug")


def service(forwarder, vip="192.0.2.1", **more):
    return Service(
        name="web",
        vip=ip_address(vip),
        port=80,
        protocol=Protocol.TCP,
        target_port=80,
        forwarder=forwarder,
        **more,
    )


def interface(name, *addresses):
    own = tuple(ip_address(one) for one in addresses)
    return Interface(name=name, ifindex=3, mac=HOP.src_mac, mtu=1500, addresses=own)


def served(one, private=("fe80::1", "10.0.0.1"), public=("192.0.2.1",)):
    host = HostView(
        private=interface("prv", *private),
        public=interface("pub", *public),
        ip_local_port_range=(32768, 60999),
        tick_shift=8,
        hz=250,
        flow_seed=1,
    )
    forwarders = {kind.name: kind({}) for kind in (Translating, Direct, Wrapping, Buggy)}
    return Served(services={1: one}, forwarders=forwarders, host=host, maps={})


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (service("translating"), Reach.ADDRESS),
        (service("direct"), Reach.VIP),
        (service("wrapping"), Reach.VIP),
        (service("direct", nodes=(ip_address("10.0.0.8"),)), Reach.NEVER),
        (service("direct", vip="2001:db8::1"), Reach.NEVER),
        (service("wrapping", vip="2001:db8::1"), Reach.UNSEEN),
    ],
)
def test_reach(one, expected):
    assert expected is reach(served(one), one, NODE)


def test_the_way_has_a_source_that_is_no_vip():
    one = service("direct")

    way = vip_way(served(one, private=("192.0.2.1", "10.0.0.1")), one, NODE, lambda _: HOP)

    assert (ip_address("10.0.0.1"), HOP, b"ip") == (way.source, way.hop, way.wrap(b"ip"))


def test_the_public_address_will_do():
    one = service("wrapping", vip="2001:db8::1")
    public = ("2001:db8::1", "2001:db8::2")

    way = vip_way(served(one, public=public), one, NODE, lambda _: HOP)

    assert ip_address("2001:db8::2") == way.source


def test_the_forwarder_puts_its_headers_before_packets():
    one = service("wrapping")

    assert b"outerip" == vip_way(served(one), one, NODE, lambda _: HOP).wrap(b"ip")


def test_without_a_next_hop_there_is_no_way():
    one = service("direct")

    with pytest.raises(GaleError, match="link-layer address is not resolved"):
        vip_way(served(one), one, NODE, lambda _: None)


def test_without_an_address_for_answers_there_is_no_way():
    one = service("direct")

    with pytest.raises(GaleError, match=r"no address of ours for answers from 192\.0\.2\.1"):
        vip_way(served(one, private=("192.0.2.1",)), one, NODE, lambda _: HOP)


def test_a_bug_of_the_forwarder_is_blamed_on_it():
    one = service("buggy")

    with pytest.raises(PluginError, match=r"buggy.*a bug"):
        reach(served(one), one, NODE)
