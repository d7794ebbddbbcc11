# SPDX-License-Identifier: Apache-2.0
"""What several balancers of a lab share, and what each has for itself."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import tomli

from galelb.errors import ConfigError, EnvironmentProblem
from galelb.group.ownership import rendezvous
from galelb.lab import bird, etcd
from galelb.lab.configs import config_files, config_text
from galelb.lab.hosts import Host, Plan, Role
from galelb.lab.lab import build_lab, commands, take_down
from galelb.lab.plan import make_plan
from galelb.lab.spec import LabSpec
from galelb.lab.state import new_spec

RUN = Path("/run/test-lab")


def group(**values: Any) -> Plan:
    given = {"balancers": 3, "translates": True} | values
    return make_plan(LabSpec(name="t", prefix="gale0000", **given), RUN)


def config(plan: Plan, name: str) -> dict[str, Any]:
    return tomli.loads(config_text(plan, plan.host(name)))


def networks(host: Host) -> list[str]:
    return [link.network for link in host.links]


def test_vips_are_the_group_s_and_on_no_machine() -> None:
    plan = group()
    on_machines = {str(a.ip) for host in plan.hosts for link in host.links for a in link.addresses}

    assert 3 == len({vip.address for vip in plan.vips})
    assert all(vip.address.startswith("203.0.113.") for vip in plan.vips)
    assert {None} == {vip.balancer for vip in plan.vips}
    assert on_machines.isdisjoint(vip.address for vip in plan.vips)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_each_balancer_of_a_group_has_one_vip_of_each_family(count: int) -> None:
    plan = group(balancers=count, ipv6=True)
    names = [host.name for host in plan.of(Role.BALANCER)]
    owners = Counter(rendezvous(vip.address, names) for vip in plan.vips)

    assert dict.fromkeys(names, 2) == owners


def test_balancers_of_a_group_differ_in_names_and_source_addresses_alone() -> None:
    plan = group(ipv6=True, udp=True)
    first, second = config(plan, "lb1"), config(plan, "lb2")

    assert "lb1" == first["load_balancer_quorum"].pop("name") == first["instance"].pop("name")
    assert ["10.113.0.211", "fd00:113::211"] == first["plugins"]["l4_nat"].pop("source_addresses")
    second["load_balancer_quorum"].pop("name")
    second["instance"].pop("name")
    assert ["10.113.0.212", "fd00:113::212"] == second["plugins"]["l4_nat"].pop("source_addresses")
    assert first == second
    assert 12 == len(first["services"]) == len({one["name"] for one in first["services"]})


def test_balancers_of_a_group_know_each_other_and_the_key() -> None:
    quorum = config(group(), "lb3")["load_balancer_quorum"]

    assert ["10.113.0.11", "10.113.0.12", "10.113.0.13"] == [p["ip"] for p in quorum["addresses"]]
    assert {9090} == {peer["port"] for peer in quorum["addresses"]}
    assert "sync_gossip" == quorum["transport"]
    assert {"key_file": "/run/test-lab/t/group.key"} == config(group(), "lb3")["plugins"][
        "sync_gossip"
    ]


def test_in_dnat_the_nodes_gateway_moves_with_the_vips() -> None:
    plan = group(options=(("mode", '"dnat"'),), ipv6=True)
    assert 2 == len({vip.address for vip in plan.vips})  # one of each family
    made = config(plan, "lb2")

    assert ["10.113.0.9", "fd00:113::9"] == made["announce"]["gateways"]
    assert ["10.113.0.9", "fd00:113::9"] == [str(one) for one in plan.host("node1").gateways]
    assert {"mode": "dnat"} == made["plugins"]["l4_nat"]


def test_one_balancer_is_no_group() -> None:
    plan = make_plan(LabSpec(name="t", prefix="gale0000", translates=True), RUN)

    assert {"load_balancer_quorum", "announce", "plugins", "services"}.isdisjoint(
        config(plan, "lb1")
    )


@pytest.mark.parametrize(
    ("values", "translates"),
    [
        ({}, True),
        ({"plugin": "l2_bridge"}, False),
        ({"options": (("source_addresses", '["10.113.0.9"]'),)}, False),
    ],
)
def test_who_translates_gets_addresses_for_it(values: Any, translates: bool) -> None:
    assert translates == new_spec(balancers=2, **values).translates


def test_a_router_stands_between_clients_and_balancers() -> None:
    plan = group(announce="bgp", ipv6=True, direct=True)
    client, router, balancer = plan.host("client1"), plan.host("router"), plan.host("lb1")

    assert ["clients"] == networks(client)
    assert ["clients", "public"] == networks(router)
    assert ["public", "private"] == networks(balancer)
    assert ["198.51.100.1", "2001:db8:51::1"] == [str(gateway) for gateway in client.gateways]
    for host in (balancer, plan.host("node1")):
        assert ["203.0.113.1", "2001:db8:113::1"] == [str(gateway) for gateway in host.gateways]
    assert all(vip.address.startswith(("192.0.2.", "2001:db8:2::")) for vip in plan.vips)


def test_without_a_public_interface_nothing_goes_through_the_router() -> None:
    assert () == group(announce="bgp").host("node1").gateways
    assert () == group().host("client1").gateways


def test_router_and_balancers_speak_bgp_in_each_family() -> None:
    plan = group(announce="bgp", ipv6=True)
    (router,) = config_files(plan, plan.host("router")).values()
    files = config_files(plan, plan.host("lb2"))
    spoken = files[RUN / "t" / "lb2.bird.conf"]

    for address in ("203.0.113.11", "203.0.113.13", "2001:db8:113::12"):
        assert f"neighbor {address} as 65001;" in router
    assert 2 == router.count("merge paths on")
    for address in ("203.0.113.1", "2001:db8:113::1"):
        assert f"neighbor {address} as 65000;" in spoken
    assert "router id 203.0.113.12;" in spoken
    assert "announce_bgp" == config(plan, "lb2")["announce"]["plugin"]


def test_without_ipv4_routers_still_have_a_number() -> None:
    plan = group(announce="bgp", ipv4=False, ipv6=True)

    assert (
        "router id 203.0.113.13;"
        in config_files(plan, plan.host("lb3"))[RUN / "t" / "lb3.bird.conf"]
    )


@pytest.mark.parametrize(
    ("values", "url"),
    [
        ({}, "http://10.113.0.2:2379"),
        ({"ipv4": False, "ipv6": True}, "http://[fd00:113::2]:2379"),
        ({"one_armed": True}, "http://203.0.113.2:2379"),
    ],
)
def test_etcd_is_a_host_of_its_own(values: Any, url: str) -> None:
    plan = group(transport="etcd", **values)
    section = config(plan, "lb1")["plugins"]["sync_etcd"]

    assert "sync_etcd" == config(plan, "lb1")["load_balancer_quorum"]["transport"]
    assert {
        "endpoints": [url],
        "lease_ttl": "2s",
        "group_key_file": "/run/test-lab/t/group.key",
    } == section
    assert {} == config_files(plan, plan.host("etcd"))
    assert url in commands(plan, plan.host("etcd"))["etcd"]


def test_what_runs_on_the_hosts_of_a_group() -> None:
    plan = group(announce="bgp", transport="etcd")
    kinds = {host.name: list(commands(plan, host)) for host in plan.hosts}

    assert {
        "lb1": ["bird", "balancer"],
        "router": ["bird"],
        "etcd": ["etcd"],
        "client1": [],
        "node1": ["server", "agent"],
    }.items() <= kinds.items()


@pytest.mark.parametrize(("module", "role"), [(bird, Role.ROUTER), (etcd, Role.ETCD)])
def test_what_is_not_installed_is_named_with_its_package(
    module: Any, role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = group(announce="bgp", transport="etcd")
    monkeypatch.setattr(module.shutil, "which", lambda *_, **__: None)

    with pytest.raises(EnvironmentProblem, match="apt-get install"):
        commands(plan, plan.of(role)[0])


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"balancers": 1, "announce": "bgp"}, "announce: only a group"),
        ({"balancers": 1, "transport": "etcd"}, "transport: only a group"),
        ({"transport": "pigeons"}, "must be gossip or etcd, got 'pigeons'"),
        ({"options": (("mode", '"dnat"'),), "announce": "bgp"}, "mode=dnat"),
    ],
)
def test_what_cannot_be_is_said(values: Any, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        group(**values)

    assert 1 == len(caught.value.problems)
    assert problem in caught.value.problems[0]


@pytest.mark.netns
def test_a_group_s_key_is_for_root_alone(tmp_path: Path) -> None:
    state = build_lab(new_spec(balancers=2, announce="bgp", nodes=1), tmp_path)
    try:
        mode = state.plan.key_file.stat().st_mode
        key = state.plan.key_file.read_text()
    finally:
        take_down(state)

    assert 0o600 == mode & 0o777
    assert 64 <= len(key.split()[-1])
