# SPDX-License-Identifier: Apache-2.0
"""Which sysctls stand in the way of packets to VIPs."""

from ipaddress import ip_address

import pytest

from galelb.model import Interface
from galelb.node.host_needs import Need, missing_sysctls

V4, V6 = ip_address("192.0.2.80"), ip_address("2001:db8:80::1")


def interface(name: str, *addresses: str) -> Interface:
    found = tuple(map(ip_address, addresses))
    return Interface(name=name, ifindex=2, mac="02:00:00:00:00:01", mtu=1500, addresses=found)


def changes(need: Need, values: dict[str, str]) -> dict[str, str]:
    """Return what is changed, by the end of its name; what is not given is quiet already."""
    quiet = {"arp_ignore": "1", "arp_announce": "2", "rp_filter": "0", "disable_ipv6": "0"}

    def read(name: str) -> str | None:
        scope, key = name.split("/")[-2:]
        return values.get(f"{scope}/{key}", quiet[key])

    return {"/".join(c.name.split("/")[-2:]): c.after for c in missing_sysctls(need, read)}


def need(*vips, tunnels=()) -> Need:
    return Need(vips=vips, interfaces=("lo", "eth0", "eth1"), tunnels=tunnels)


def test_a_machine_that_is_as_it_should_be_is_left_alone():
    assert {} == changes(need(V4, V6), {})


def test_it_does_not_answer_for_vips():
    noisy = {"all/arp_ignore": "0", "eth0/arp_ignore": "3", "lo/arp_ignore": "0"}

    assert {"all/arp_ignore": "1", "eth0/arp_ignore": "1"} == changes(need(V4), noisy)
    assert {} == changes(need(V6), noisy)


@pytest.mark.parametrize("key", ["arp_ignore", "arp_announce"])
def test_what_holds_for_all_interfaces_is_not_set_for_each(key):
    silent = {"arp_ignore": "1", "arp_announce": "2"}[key]
    fresh = {f"{scope}/{key}": "0" for scope in ("all", "eth0", "eth1")}

    assert {f"all/{key}": silent} == changes(need(V4), fresh)
    assert {} == changes(need(V4), {**fresh, f"all/{key}": silent})


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({"eth0/rp_filter": "1"}, {"eth0/rp_filter": "2"}),
        ({"all/rp_filter": "1"}, {"eth0/rp_filter": "2", "eth1/rp_filter": "2"}),
        ({"all/rp_filter": "2", "eth0/rp_filter": "1"}, {}),
        ({"all/rp_filter": "1", "eth0/rp_filter": "2"}, {"eth1/rp_filter": "2"}),
    ],
)
def test_a_strict_reverse_path_filter_is_loosened(values, wanted):
    assert wanted == changes(need(V4, tunnels=[interface("eth0", "10.0.0.2")]), values)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({"eth0/rp_filter": "2"}, {"eth0/rp_filter": "0"}),
        ({"eth1/rp_filter": "2"}, {}),
        ({"all/rp_filter": "2"}, {"eth1/rp_filter": "2", "all/rp_filter": "0"}),
        (
            {"all/rp_filter": "1", "eth0/rp_filter": "1", "eth1/rp_filter": "1"},
            {"eth0/rp_filter": "0", "eth1/rp_filter": "2", "all/rp_filter": "0"},
        ),
    ],
)
def test_ipv4_in_ipv6_tunnels_needs_an_interface_without_a_filter(values, wanted):
    assert wanted == changes(need(V4, tunnels=[interface("eth0", "fd00::2")]), values)


def test_all_is_opened_last_so_that_the_others_are_never_without():
    values = {"all/rp_filter": "2"}

    found = list(changes(need(V4, tunnels=[interface("eth0", "fd00::2")]), values))

    assert "all/rp_filter" == found[-1]


def test_ipv6_in_ipv4_tunnels_needs_ipv6_where_it_comes_in():
    values = {"eth0/disable_ipv6": "1", "eth1/disable_ipv6": "1"}
    tunnels = [interface("eth0", "10.0.0.2")]

    assert {"eth0/disable_ipv6": "0"} == changes(need(V6, tunnels=tunnels), values)
    assert {} == changes(need(V6), values)
    assert {} == changes(need(V4, tunnels=tunnels), values)


def test_a_tunnel_device_of_the_kernel_has_no_address_so_it_takes_no_filter():
    need = Need(vips=[V4], interfaces=("lo", "eth0", "tunl0"), tunnels=[interface("tunl0")])

    assert {"tunl0/rp_filter": "0"} == changes(need, {"tunl0/rp_filter": "2"})
