# SPDX-License-Identifier: Apache-2.0
"""What is made up for a trace without a network, and what is refused."""

from ipaddress import ip_address

import pytest

from galelb.errors import ConfigError
from galelb.model import Node
from galelb.trace.scene import Given, parse_mac, parse_node, parse_nodes, scene


def node(text):
    return Node(address=ip_address(text))


def test_a_node_is_an_address_and_what_follows():
    found = parse_node("fd00::11, mac=02-AA-00-00-00-11,weight=0")

    assert ("fd00::11", "02:aa:00:00:00:11", 0) == (str(found.address), found.mac, found.weight)
    assert 1 == parse_node("10.0.0.1").weight


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("10.0.0", "'10.0.0' is no IP address"),
        ("", "'' is no IP address"),
        ("224.0.0.1", "224.0.0.1 is no address of one host"),
        ("::", ":: is no address of one host"),
        ("::ffff:10.0.0.1", "write the IPv4 address itself: 10.0.0.1"),
        ("10.0.0.1,weight=x", "weight must be 0 to 65535, got 'x'"),
        ("10.0.0.1,weight=65536", "weight must be 0 to 65535, got '65536'"),
        ("10.0.0.1,name=a", "unknown key 'name'; allowed: mac, weight"),
        ("10.0.0.1,mac=02:00", "'02:00' is no MAC address"),
    ],
)
def test_a_bad_node_is_named(text, problem):
    with pytest.raises(ConfigError) as error:
        parse_node(text)

    assert f"--node {text}" in str(error.value)
    assert problem in str(error.value)


@pytest.mark.parametrize("text", ["ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "00:00:00:00:00:00"])
def test_a_mac_address_is_of_one_host(text):
    with pytest.raises(ConfigError, match="no address of one host"):
        parse_mac(text, "--vip-mac")


def test_the_balancer_is_beside_its_nodes_where_nobody_else_is():
    nodes = [node("192.168.7.1"), node("192.168.7.3"), node("fd00:7::1")]
    found = scene(Given(), nodes, [ip_address("192.168.7.2")], one_armed=False)

    assert ["192.168.7.4", "fd00:7::2"] == list(map(str, found.private_addresses))
    assert 5 == len({found.vip_mac, found.src_mac, *(one.mac for one in found.nodes)})


def test_there_is_room_beside_a_full_network():
    nodes = [node(f"10.0.{n >> 8}.{n & 255}") for n in range(1, 600)]

    assert "10.0.2.88" == str(scene(Given(), nodes, [], one_armed=False).private_addresses[0])


def test_what_is_given_is_taken():
    given = Given(
        vip_mac="02:00:00:00:00:aa",
        private_addresses=[ip_address("10.9.9.9")],
        public_addresses=[ip_address("10.8.8.8")],
    )
    found = scene(given, [], [], one_armed=False)

    assert "02:00:00:00:00:aa" == found.vip_mac
    assert ["10.9.9.9", "fd00::1"] == list(map(str, found.private_addresses))
    assert ["10.8.8.8", "2001:db8::1"] == list(map(str, found.public_addresses))


def test_one_interface_has_one_mac_address():
    assert (
        "02:00:00:00:00:bb"
        == scene(Given(src_mac="02:00:00:00:00:bb"), [], [], one_armed=True).vip_mac
    )
    with pytest.raises(ConfigError, match="is the private one"):
        scene(
            Given(src_mac="02:00:00:00:00:bb", vip_mac="02:00:00:00:00:aa"), [], [], one_armed=True
        )


def test_a_node_given_twice_is_a_mistake():
    with pytest.raises(ConfigError, match=r"10\.0\.0\.1,weight=2: 10\.0\.0\.1 is given twice"):
        parse_nodes(["10.0.0.1", "10.0.0.2", "10.0.0.1,weight=2"])
