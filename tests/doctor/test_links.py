# SPDX-License-Identifier: Apache-2.0
"""What keeps programs from being attached to interfaces, and in which mode they will be."""

import attrs
import pytest

from galelb.bpf.attach import XdpState
from galelb.doctor.links import check_links, expected_mode
from galelb.model import XdpMode
from galelb.netlink.xdp_features import XdpFeature

OURS = XdpState(7, XdpMode.NATIVE, "gale_xdp", True)
THEIRS = XdpState(8, XdpMode.GENERIC, "other", False)


def check(links, **values):
    given = {
        "xdp_mode": "auto",
        "tc_possible": True,
        "ours": (),
        "present": ("eth0", "eth1", "lo"),
        "ipv6": False,
        "vlan": False,
    }
    return check_links(links, **(given | values))


def public(links, **values):
    """The links with facts of the public one changed."""
    return links[0], attrs.evolve(links[1], **values)


def test_good_interfaces_have_nothing_to_mend(links, bad):
    assert {} == bad(check(links))


def test_an_interface_that_is_missing(links, bad):
    found = bad(check(public(links, name="eth11", interface=None)))

    assert ["interface eth11"] == list(found)
    assert 'did you mean "eth1"?' in found["interface eth11"][1]


@pytest.mark.parametrize(
    ("facts", "options", "name", "level", "words", "mend"),
    [
        ({"up": False}, {}, "interface eth1", "fail", "is down", "ip link set eth1 up"),
        ({"carrier": False}, {}, "interface eth1", "fail", "no carrier", ""),
        ({"claimed": True}, {}, "owner eth1", "fail", "another balancer", ""),
        (
            {"xdp": THEIRS},
            {},
            "owner eth1",
            "fail",
            "XDP program other (id 8) of somebody else",
            "ip link set dev eth1 xdpgeneric off",
        ),
        (
            {"ipv6_off": True},
            {"ipv6": True},
            "ipv6 eth1",
            "fail",
            "IPv6 is off",
            "sysctl -w net/ipv6/conf/eth1/disable_ipv6=0",
        ),
        (
            {"offloads": {"rxvlan": True}},
            {"vlan": True},
            "vlan eth1",
            "fail",
            "VLAN tags",
            "ethtool -K eth1 rxvlan off",
        ),
        (
            {"offloads": {"lro": True}},
            {},
            "offloads eth1",
            "warn",
            "LRO",
            "ethtool -K eth1 lro off",
        ),
        (
            {"features": XdpFeature(0)},
            {"xdp_mode": "native"},
            "xdp eth1",
            "fail",
            "has no native XDP",
            "",
        ),
    ],
)
def test_what_is_wrong_with_an_interface(links, bad, facts, options, name, level, words, mend):
    found = bad(check(public(links, **facts), **options))

    assert [name] == list(found)
    assert (level, mend) == (found[name][0], found[name][2])
    assert words in found[name][1]


@pytest.mark.parametrize(
    ("facts", "options"),
    [
        ({"claimed": True}, {"ours": ("eth1",)}),
        ({"ipv6_off": True}, {}),
        ({"offloads": {"rxvlan": True}}, {}),
        ({"offloads": {"rxvlan": True}}, {"vlan": True, "xdp_mode": "tc"}),
        ({"offloads": {"gro": True}}, {}),
        ({"features": None}, {}),
    ],
)
def test_what_is_in_nobodys_way(links, bad, facts, options):
    assert {} == bad(check(public(links, **facts), **options))


def test_a_veth_whose_other_end_has_gro_off_drops_what_is_sent(links, bad, interface):
    plugged = interface("eth1", kind="veth")
    can = XdpFeature.BASIC | XdpFeature.REDIRECT

    found = bad(check(public(links, interface=plugged, features=can)))

    assert ["xdp eth1"] == list(found)
    assert "warn" == found["xdp eth1"][0]
    assert "ethtool -K DEVICE gro on tx off" == found["xdp eth1"][2]
    assert {} == bad(check(public(links, features=can)))  # hardware tells only once attached


def test_without_native_xdp_all_interfaces_are_slower_and_it_is_said_why(links, bad):
    found = bad(check(public(links, features=XdpFeature(0))))

    assert {"xdp eth0", "xdp eth1"} == set(found)
    assert all("as tc" in text and "eth1 has no native" in text for _, text, _ in found.values())


def test_gro_and_lro_go_while_generic_xdp_is_attached(links):
    off = public(links, offloads={"gro": True, "lro": True})

    texts = [one.text for one in check(off, xdp_mode="generic") if one.name == "offloads eth1"]

    assert ["gro and lro will be switched off while generic XDP is attached"] == texts


@pytest.mark.parametrize(
    ("facts", "xdp_mode", "tc", "expected"),
    [
        ({}, "auto", True, XdpMode.NATIVE),
        ({}, "generic", True, XdpMode.GENERIC),
        ({}, "tc", True, XdpMode.TC),
        ({"features": XdpFeature(0)}, "auto", True, XdpMode.TC),
        ({"features": XdpFeature(0)}, "auto", False, XdpMode.GENERIC),
        ({"features": None}, "auto", True, XdpMode.NATIVE),
        ({"role": "extra"}, "auto", True, XdpMode.TC),
        ({"tc": True}, "auto", True, XdpMode.TC),
        ({"xdp": OURS, "features": XdpFeature(0)}, "auto", True, XdpMode.NATIVE),
    ],
)
def test_the_mode_is_foreseen(links, facts, xdp_mode, tc, expected):
    assert expected is expected_mode(public(links, **facts), xdp_mode, tc)[0]
