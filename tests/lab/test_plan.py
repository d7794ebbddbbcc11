# SPDX-License-Identifier: Apache-2.0
"""The plan of a lab: names, addresses and files follow from the spec."""

import json
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import attrs
import pytest
import tomli

from galelb.errors import ConfigError, LabError
from galelb.lab.configs import config_text
from galelb.lab.hosts import Role
from galelb.lab.http_client import Target
from galelb.lab.options import toml_value
from galelb.lab.plan import make_plan
from galelb.lab.spec import MAX_BALANCERS, MAX_HOSTS_PER_ROLE, LabSpec
from galelb.lab.state import new_spec
from galelb.lab.targets import TargetSet

RUN = Path("/run/test-lab")


def spec(**values: Any) -> LabSpec:
    return LabSpec(name="t", prefix="gale0000", **values)


@pytest.mark.parametrize("one_armed", [False, True])
def test_every_name_and_address_is_unique_even_in_the_largest_lab(one_armed: bool) -> None:
    most, balancers = MAX_HOSTS_PER_ROLE, MAX_BALANCERS
    values = {"translates": True, "one_armed": one_armed, "transport": "etcd", "announce": "arp"}
    plan = make_plan(spec(balancers=balancers, nodes=most, clients=most, ipv6=True, **values), RUN)
    addresses = [a.ip for host in plan.hosts for link in host.links for a in link.addresses]
    addresses += [source for host in plan.hosts for source in host.sources]
    addresses += [ip_address(vip.address) for vip in plan.vips]

    assert len(set(plan.namespaces)) == len(plan.namespaces)
    assert len(set(addresses)) == len(addresses)
    assert all(len(host.name) <= 15 for host in plan.hosts)


def test_balancers_stand_between_the_two_networks() -> None:
    plan = make_plan(spec(), RUN)
    networks = {host.name: [link.network for link in host.links] for host in plan.hosts}

    assert ["public", "private"] == networks["lb1"]
    assert ["private"] == networks["node1"]
    assert ["public"] == networks["client1"]


def test_one_armed_means_one_network_for_all() -> None:
    plan = make_plan(spec(one_armed=True), RUN)

    assert {"public"} == {link.network for host in plan.hosts for link in host.links}
    assert "public" == plan.private


def test_the_default_lab_uses_the_default_service() -> None:
    plan = make_plan(spec(), RUN)
    text = config_text(plan, plan.host("lb1"))

    assert [("default", "203.0.113.11", 8080, "tcp")] == [
        (vip.service, vip.address, vip.port, vip.protocol) for vip in plan.vips
    ]
    assert "services" not in tomli.loads(text)


def test_ipv6_and_udp_are_services_of_their_own() -> None:
    plan = make_plan(spec(ipv6=True, udp=True), RUN)
    services = tomli.loads(config_text(plan, plan.host("lb1")))["services"]

    assert ["tcp4", "udp4", "tcp6", "udp6"] == [service["name"] for service in services]
    assert {"203.0.113.11", "2001:db8:113::11"} == {service["vip"] for service in services}


def test_plugin_options_are_written_as_toml() -> None:
    plan = make_plan(spec(options=(("mode", '"dnat"'), ("timeout", "5"))), RUN)
    config = tomli.loads(config_text(plan, plan.host("lb1")))

    assert {"l4_nat": {"mode": "dnat", "timeout": 5}} == config["plugins"]


def test_nodes_report_to_every_address_of_every_balancer() -> None:
    plan = make_plan(spec(balancers=2, ipv6=True, weights=(1, 2, 3)), RUN)
    config = tomli.loads(config_text(plan, plan.host("node3")))

    assert ["10.113.0.11", "fd00:113::11", "10.113.0.12", "fd00:113::12"] == [
        entry["ip"] for entry in config["load_balancer"]["addresses"]
    ]
    files = {
        "state_file": str(RUN / "t" / "node3.host.json"),
        "stop_file": str(RUN / "t" / "node3.stopped"),
    }
    assert {"name": "node3", "weight": 3} | files == config["node"]


def test_nodes_that_answer_directly_are_on_both_networks() -> None:
    plan = make_plan(spec(direct=True), RUN)
    networks = {host.name: [link.network for link in host.links] for host in plan.hosts}

    assert ["private", "public"] == networks["node1"]
    assert ["public", "private"] == networks["lb1"]
    assert ["203.0.113.11"] == [vip.address for vip in plan.vips]


def test_with_one_network_direct_answers_need_vips_that_nodes_do_not_report_to() -> None:
    plan = make_plan(spec(direct=True, one_armed=True), RUN)
    balancer, node = plan.host("lb1"), plan.host("node1")
    reported_to = tomli.loads(config_text(plan, node))["load_balancer"]["addresses"]
    services = tomli.loads(config_text(plan, balancer))["services"]

    assert ["203.0.113.191"] == [vip.address for vip in plan.vips]
    assert ["203.0.113.191"] == [service["vip"] for service in services]
    assert ["203.0.113.11"] == [entry["ip"] for entry in reported_to]


@pytest.mark.parametrize(
    ("plugin", "needs"),
    [("l4_nat", (False, False)), ("l2_bridge", (True, True)), ("no_such", (False, False))],
)
def test_a_forwarder_says_what_it_needs_of_the_lab(plugin: str, needs: tuple[bool, bool]) -> None:
    made = new_spec(plugin=plugin)

    assert needs == (made.direct, made.stateless)


def test_a_spec_survives_json() -> None:
    made = spec(weights=(1, 2, 3), options=(("mode", '"dnat"'),))

    assert made == LabSpec.from_json(json.loads(json.dumps(attrs.asdict(made))))


def test_what_another_version_wrote_into_a_record_is_left_out() -> None:
    made = spec(nodes=2)
    written = {**json.loads(json.dumps(attrs.asdict(made))), "since_then": True}

    assert made == LabSpec.from_json(written)


def test_nodes_may_be_of_another_family_than_clients() -> None:
    plan = make_plan(spec(direct=True, any_family=True, ipv4=False, ipv6=True, node_family="ipv4"))
    node, balancer = plan.host("node1"), plan.host("lb1")
    reported_to = tomli.loads(config_text(plan, node))["load_balancer"]["addresses"]

    assert ["10.113.0.71/24"] == [str(one) for one in node.addresses("private")]
    assert ["2001:db8:113::71/64"] == [str(one) for one in node.addresses("public")]
    assert ["10.113.0.11"] == [entry["ip"] for entry in reported_to]
    assert ["2001:db8:113::11"] == [vip.address for vip in plan.vips]
    assert ["10.113.0.11/24"] == [str(one) for one in balancer.addresses("private")]


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"any_family": False}, "reaches only nodes of the VIP's family"),
        ({"one_armed": True}, "a one-armed lab has one network"),
        ({"node_family": "ipx"}, "must be ipv4 or ipv6"),
    ],
)
def test_another_family_needs_tunnels_and_a_network(values: Any, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        spec(**({"any_family": True, "node_family": "ipv6"} | values))

    assert 1 == len(caught.value.problems)
    assert problem in caught.value.problems[0]


@pytest.mark.parametrize(
    ("encap", "any_family"), [("ipip", True), ("gue", True), ("none", False), ("nonsense", False)]
)
def test_a_forwarder_s_options_say_what_it_needs(encap: str, any_family: bool) -> None:
    made = new_spec(plugin="l3_route", options=(("encap", f'"{encap}"'),))

    assert any_family == made.any_family
    assert made.direct == (encap != "nonsense"), "a bad option is for the balancer to tell"


def test_all_problems_of_a_spec_come_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        LabSpec(name="Bad name", prefix="gale0000", nodes=0, balancers=99, weights=(1, -1))

    assert 5 == len(caught.value.problems)


def test_an_unknown_host_is_answered_with_those_that_exist() -> None:
    with pytest.raises(LabError, match="lb1, node1, node2, node3, client1"):
        make_plan(spec(), RUN).host("node9")


def test_clients_have_no_configuration() -> None:
    plan = make_plan(spec(), RUN)

    assert [None] == [host.config for host in plan.of(Role.CLIENT)]


@pytest.mark.parametrize(
    ("given", "expected"),
    [("5", "5"), ("dnat", '"dnat"'), ('"x"', '"x"'), ("[1, 2]", "[1, 2]"), ("true", "true")],
)
def test_option_values_may_leave_out_the_quotes(given: str, expected: str) -> None:
    assert expected == toml_value(given)


A, B = Target("203.0.113.11", 8080), Target("203.0.113.12", 8080)


def test_addresses_are_used_in_turn() -> None:
    targets = TargetSet([A, B])

    assert {A, B} == {targets.next(), targets.next()}


def test_a_dead_address_is_left_out_until_it_is_alive() -> None:
    targets = TargetSet([A, B])
    targets.failed(A, "connect_timeout")

    assert [B, B, B] == [targets.next() for _ in range(3)]
    assert (A,) == targets.dead
    targets.alive(A)
    assert {A, B} == {targets.next(), targets.next()}


def test_a_refused_connection_is_not_a_dead_address() -> None:
    targets = TargetSet([A, B])
    targets.failed(A, "refused")

    assert () == targets.dead


def test_the_only_address_is_used_dead_or_not() -> None:
    targets = TargetSet([A])
    targets.failed(A, "connect_timeout")

    assert A == targets.next()
