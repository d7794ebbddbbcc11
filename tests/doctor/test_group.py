# SPDX-License-Identifier: Apache-2.0
"""What doctor says of a balancer's place in its group."""

import json

import attrs
import pytest

from galelb.config import BalancerConfig
from galelb.doctor.balancer import check_balancer, listening


def grouped(*addresses, announce="announce_arp", services=True):
    data = {
        "private_interface": {"net_interface_private": "eth0"},
        "public_interface": {"net_interface_public": "eth1"},
        "forwarding": {"plugin": "plain"},
        "load_balancer_quorum": {
            "transport": "sync_gossip",
            "addresses": [{"ip": ip, "port": port} for ip, port in addresses],
        },
        "announce": {"plugin": announce} if announce else {},
    }
    if services:
        data["services"] = [{"name": "web", "vip": "192.0.2.1", "port": 80}]
    return BalancerConfig.model_validate_json(json.dumps(data))


GROUP = (("10.0.0.1", 9090), ("10.0.0.2", 9090))


@pytest.fixture
def apart(facts, interface):
    """Facts of a machine that has no VIP by itself."""
    return attrs.evolve(facts, interfaces=dict(facts.interfaces) | {"eth1": interface("eth1")})


def test_all_is_well_with_a_group(apart, bad):
    assert {} == bad(check_balancer(grouped(*GROUP), apart))


def test_a_lone_balancer_is_asked_nothing(config, facts, bad):
    assert "group" not in [one.name for one in check_balancer(config, facts)]


@pytest.mark.parametrize(
    ("addresses", "text"),
    [
        ((("10.0.0.2", 9090),), "no address of eth0 (10.0.0.1) is in load_balancer_quorum"),
        ((("10.0.0.1", 9190),), "listed with port 9190, load_balancer_port is 9090"),
    ],
)
def test_others_have_to_find_it(apart, bad, addresses, text):
    level, said, _ = bad(check_balancer(grouped(*addresses), apart))["group"]

    assert "warn" == level
    assert text in said


def test_a_vip_that_is_there_for_ever_cannot_move(facts, bad):
    level, text, mend = bad(check_balancer(grouped(*GROUP), facts))["vip 192.0.2.1"]

    assert ("warn", "ip address del 192.0.2.1/32 dev eth1") == (level, mend)
    assert "cannot move" in text


def test_the_default_service_is_at_the_interfaces_own_address(facts, bad):
    assert {} == bad(check_balancer(grouped(*GROUP, services=False), facts))


def test_without_an_announcer_vips_stay(apart, bad):
    assert "announce" in bad(check_balancer(grouped(*GROUP, announce=None), apart))


def test_a_group_listens_on_two_more_ports(config, facts, bad):
    assert {"node_port": 7070, "api_port": 5555} == listening(config)
    assert {9090, 9091} <= set(listening(grouped(*GROUP)).values())

    facts = attrs.evolve(facts, busy={"sharing_port": "10.0.0.1 port 9091: in use"})
    _, text, _ = bad(check_balancer(grouped(*GROUP), facts))["sharing_port 9091"]
    assert text.endswith("change sharing_port in [load_balancer_quorum]")
