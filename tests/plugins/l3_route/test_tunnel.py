# SPDX-License-Identifier: Apache-2.0
"""Packets for checks, in tunnels as scapy reads them."""

from ipaddress import ip_address

import pytest
from galelb_plugins.l3_route.options import L3RouteOptions
from galelb_plugins.l3_route.plugin import L3Route
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6

from galelb.errors import GaleError
from galelb.forwarder import HostView
from galelb.model import Interface, Protocol, Service
from galelb.testing.checksums import checksum_problems

OURS = {4: "10.0.0.1", 6: "fd00::1"}
NODES = {4: "10.0.0.9", 6: "fd00::9"}
INSIDE = {
    4: bytes(IP(src="10.0.0.1", dst="192.0.2.1", ttl=1) / TCP(sport=40000, dport=80)),
    6: bytes(IPv6(src="fd00::1", dst="2001:db8::1", hlim=1) / TCP(sport=40000, dport=80)),
}
IPS = {4: IP, 6: IPv6}
ETHERTYPES = {4: b"\x08\x00", 6: b"\x86\xdd"}
WEB = Service(
    name="web",
    vip=ip_address("192.0.2.1"),
    port=80,
    protocol=Protocol.TCP,
    target_port=80,
    forwarder="l3_route",
)


def host(*addresses):
    private = Interface(
        name="priv",
        ifindex=2,
        mac="02:00:00:00:00:01",
        mtu=1500,
        addresses=tuple(ip_address(one) for one in addresses),
    )
    return HostView(
        private=private,
        public=private,
        ip_local_port_range=(32768, 60999),
        tick_shift=8,
        hz=250,
        flow_seed=1,
    )


def travels(packet, node, machine=None, **options):
    forwarder = L3Route(L3RouteOptions(**options))
    machine = host(*OURS.values()) if machine is None else machine
    return forwarder.vip_packet(WEB, packet, ip_address(node), machine)


@pytest.mark.parametrize("inner", [4, 6])
@pytest.mark.parametrize("outer", [4, 6])
class TestTunnels:
    def test_ipip(self, outer, inner):
        packet = travels(INSIDE[inner], NODES[outer], encap="ipip")

        seen = IPS[outer](packet)
        assert (OURS[outer], NODES[outer]) == (seen.src, seen.dst)
        assert {4: 4, 6: 41}[inner] == (seen.proto if outer == 4 else seen.nh)
        assert INSIDE[inner] == packet[-len(INSIDE[inner]) :]
        assert [] == checksum_problems(bytes(12) + ETHERTYPES[outer] + packet)

    def test_gue(self, outer, inner):
        packet = travels(INSIDE[inner], NODES[outer], encap="gue", gue_port=6081)

        seen = IPS[outer](packet)
        assert (6081, 0, 8 + len(INSIDE[inner])) == (
            seen[UDP].dport,
            seen[UDP].chksum,
            seen[UDP].len,
        )
        assert INSIDE[inner] == packet[-len(INSIDE[inner]) :]
        assert len(packet) == {4: 20, 6: 40}[outer] + seen[UDP].len

    def test_none(self, outer, inner):
        assert INSIDE[inner] == travels(INSIDE[inner], NODES[outer], encap="none")


def test_outer_packets_come_from_the_configured_network():
    packet = travels(INSIDE[4], NODES[4], outer_source=("10.200.0.0/16",))

    assert "10.200.0.0" == IP(packet).src


def test_a_node_that_no_tunnel_reaches_is_refused():
    with pytest.raises(GaleError, match=r"priv has no IPv6 address that a tunnel to fd00::9"):
        travels(INSIDE[4], NODES[6], host("10.0.0.1"))


def test_an_empty_packet_only_asks():
    assert b"" == travels(b"", NODES[6], host("10.0.0.1"))
