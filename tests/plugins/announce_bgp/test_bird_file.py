# SPDX-License-Identifier: Apache-2.0
"""The file for bird: one line for each VIP, and the same VIPs when it is read again."""

from ipaddress import ip_address

from galelb_plugins.announce_bgp.bird_control import parse_protocols
from galelb_plugins.announce_bgp.bird_file import protocol_name, read, render

from galelb.announcer import Held, HeldKind


def held(address, interface="lo"):
    return Held(address=ip_address(address), interface=interface, kind=HeldKind.VIP)


VIPS = [held("192.0.2.10"), held("2001:db8::10"), held("2001:db8::1:0"), held("192.0.2.9", "eth0")]


def lines(vips):
    return [line for line in render(vips).splitlines() if not line.startswith("#")]


def test_each_vip_has_a_protocol_of_its_own():
    assert [
        "protocol direct galelb_192_0_2_10 "
        "{ ipv4 { preference 250; import where net = 192.0.2.10/32; }; interface 192.0.2.10/32; }",
        "protocol direct galelb_2001_db8__10 { ipv6 { preference 250; "
        "import where net = 2001:db8::10/128; }; interface 2001:db8::10/128; }",
    ] == lines(VIPS[:2])


def test_what_is_written_is_read_again_whatever_the_order():
    assert render(VIPS) == render(VIPS[::-1])
    assert {vip.address for vip in VIPS} == set(read(render(VIPS)))
    assert [] == read(render([]))


def test_names_differ_for_different_addresses():
    assert len(VIPS) == len({protocol_name(vip.address) for vip in VIPS})


def test_an_address_on_two_interfaces_is_one_protocol():
    assert 1 == len(lines([held("192.0.2.10"), held("192.0.2.10", "eth0")]))


def test_the_table_of_protocols_is_read():
    found = parse_protocols(
        [
            "Name       Proto      Table      State  Since         Info",
            "device1    Device     ---        up     02:02:45.637  ",
            "galelb_192_0_2_10 Direct     ---        up     02:02:46.135  ",
            "galelb_mine Static     master4    up     02:02:46.135  ",
            "r1         BGP        ---        up     02:02:46.135  Established   ",
            "r2         BGP        ---        start  02:02:46.135  Active        Socket: refused",
            "",
            "odd",
        ]
    )

    assert frozenset({"galelb_192_0_2_10"}) == found.ours
    assert (("r1", True), ("r2", False)) == found.sessions
