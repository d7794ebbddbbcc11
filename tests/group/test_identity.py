# SPDX-License-Identifier: Apache-2.0
"""Who a balancer is in its group."""

import json
from ipaddress import ip_address

import pytest

from galelb.config import BalancerConfig
from galelb.errors import ConfigError
from galelb.group.identity import identify, setting_digests

LB1, LB2, LB3 = (ip_address(f"10.0.0.{n}") for n in (11, 12, 13))
GROUP = [{"ip": str(ip)} for ip in (LB1, LB2, LB3)]


def config(addresses=GROUP, name="", port=9090, **sections):
    data = {
        "private_interface": {"net_interface_private": "eth0", "load_balancer_port": port},
        "public_interface": {"net_interface_public": "eth1"},
        "load_balancer_quorum": {"addresses": addresses, "name": name},
    }
    return BalancerConfig.model_validate_json(json.dumps(data | sections))


def test_a_listed_balancer_is_where_the_list_says():
    me = identify(config(), (ip_address("10.0.0.99"), LB2))

    assert (LB2, "10.0.0.12", 3) == (me.address, me.name, me.size)
    assert ((LB1, 9090), (LB3, 9090)) == me.peers


def test_who_lists_only_the_others_counts_itself():
    me = identify(config(GROUP[1:], name="first"), (ip_address("fd00::1"), LB1))

    assert (LB1, "first", 3) == (me.address, me.name, me.size)


def test_two_balancers_of_one_machine_differ_by_their_port():
    both = [{"ip": str(LB1), "port": 9090}, {"ip": str(LB1), "port": 9190}]

    assert ((LB1, 9090),) == identify(config(both, port=9190), (LB1,)).peers


@pytest.mark.parametrize("own", [(), (ip_address("fd00::1"),), (ip_address("fe80::1"),)])
def test_a_balancer_that_peers_cannot_reach_is_an_error(own):
    with pytest.raises(ConfigError, match="eth0 has no address that the other balancers"):
        identify(config(), own)


def test_settings_are_told_as_digests_by_key_and_services_as_one():
    service = {"name": "web", "vip": "192.0.2.1", "port": 80}
    before = setting_digests(config(services=[service]))
    after = setting_digests(config(services=[service | {"port": 81}]))

    assert "services.web" in before
    assert "node_health.checks_timeout" in before
    assert {"services.web"} == {key for key in before if before[key] != after[key]}
    assert not any("192.0.2.1" in text for text in (*before, *before.values()))
