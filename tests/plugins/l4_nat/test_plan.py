# SPDX-License-Identifier: Apache-2.0
"""Plans of l4_nat: slices for every way to a node, adopted from the maps, with reasons."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from galelb_plugins.l4_nat.codec import slice_from_leaf
from galelb_plugins.l4_nat.options import L4NatOptions
from galelb_plugins.l4_nat.planner import Planner
from galelb_plugins.l4_nat.plugin import L4Nat

from galelb.flowshare import SourceAddress
from galelb.model import Protocol
from galelb.testing.fake_maps import FakeMap

NODES = ["10.0.0.11", "10.0.0.12", "fd00::11"]


def write_content(content, maps) -> None:
    for name, entries in content.items():
        maps[name].update(entries)


def options(**values: Any) -> L4NatOptions:
    small: dict[str, Any] = {"max_flows": 1024, "ports": (2000, 2099), "max_slices": 8}
    return L4NatOptions(**(small | values))


def setup(machine, chosen, services=None, nodes=NODES):
    services = services or [machine.service()]
    host = machine.host("10.0.0.1", "fd00::1")
    return machine.view(services, nodes, host), machine.maps(chosen, services, host)


def planned_ids(content) -> dict[tuple[Any, ...], int]:
    return {
        (key["node"], key["source"], key["target_port"], key["protocol"]): leaf["id"]
        for key, leaf in content["l4_nat_slices"]
    }


def test_each_node_gets_a_slice_of_its_own(machine) -> None:
    view, maps = setup(machine, options())

    content = Planner(options()).plan(view, maps)

    leaves = [leaf for _, leaf in content["l4_nat_slices"]]
    assert [(1, 0, 1), (2, 100, 2)] == [(p["id"], p["base"], p["node"]) for p in leaves]
    assert [(2000, 100)] * 2 == [(p["first_port"], p["count"]) for p in leaves]


def test_slices_are_described_by_id_before_they_are_named(machine) -> None:
    view, maps = setup(machine, options())

    content = Planner(options()).plan(view, maps)

    names = list(content)
    assert names.index("l4_nat_slice_ids") < names.index("l4_nat_slices")
    assert [1, 2] == [key for key, _ in content["l4_nat_slice_ids"]]


def test_the_pool_is_listed_per_family(machine) -> None:
    services = [machine.service(), machine.service("v6", vip="2001:db8::1")]
    view, maps = setup(machine, options(), services)

    content = Planner(options()).plan(view, maps)

    ((_, settings),) = content["l4_nat_settings"]
    assert (1, 1) == (settings["count4"], settings["count6"])
    addresses = {n: leaf["family"] for n, leaf in content["l4_nat_sources"]}
    assert 4 == addresses[settings["sources4"][0]]
    assert 6 == addresses[settings["sources6"][0]]


def test_services_with_one_target_port_share_slices(machine) -> None:
    services = [machine.service("a", port=80), machine.service("b", port=81)]
    view, maps = setup(machine, options(), services)

    content = Planner(options()).plan(view, maps)

    assert 2 == len(content["l4_nat_slices"])


def test_protocols_and_target_ports_have_slices_of_their_own(machine) -> None:
    services = [
        machine.service("a"),
        machine.service("b", protocol=Protocol.UDP),
        machine.service("c", port=81, target_port=81),
    ]
    view, maps = setup(machine, options(), services)

    content = Planner(options()).plan(view, maps)

    assert 6 == len(content["l4_nat_slices"])


def test_a_service_with_nodes_of_its_own_uses_only_these(machine) -> None:
    service = machine.service(nodes=(ip_address("10.0.0.12"),))
    view, maps = setup(machine, options(), [service])

    content = Planner(options()).plan(view, maps)

    assert [2] == [leaf["node"] for _, leaf in content["l4_nat_slices"]]


def test_a_new_planner_adopts_what_the_maps_hold(machine) -> None:
    view, maps = setup(machine, options())
    first = Planner(options()).plan(view, maps)
    write_content(first, maps)
    fewer, _ = setup(machine, options(), nodes=["10.0.0.12", "10.0.0.13"])

    second = Planner(options()).plan(fewer, maps)

    before, after = planned_ids(first), planned_ids(second)
    assert before == {key: after[key] for key in before}
    assert 3 == len(after)


def test_exhaustion_names_the_node_and_the_setting(machine) -> None:
    chosen = options(max_slices=1)
    view, maps = setup(machine, chosen)
    planner = Planner(chosen)

    planner.plan(view, maps)

    assert [2] == list(planner.unroutable)
    assert "10.0.0.12" in planner.unroutable[2]
    assert "max_slices" in planner.unroutable[2]


def test_a_slice_of_a_gone_node_is_reused_when_space_is_short(machine) -> None:
    chosen = options(max_slices=2)
    view, maps = setup(machine, chosen)
    planner = Planner(chosen)
    write_content(planner.plan(view, maps), maps)
    other, _ = setup(machine, chosen, nodes=["10.0.0.12", "10.0.0.13"])

    first = planner.plan(other, maps)
    write_content(first, maps)
    waiting = dict(planner.unroutable)
    second = planner.plan(other, maps)

    assert [2] == list(waiting)
    assert {} == planner.unroutable
    assert 2 == len(second["l4_nat_slices"])
    write_content(second, maps)
    assert 2 == len(list(maps["l4_nat_slices"].items()))


def test_a_slice_with_a_used_port_is_not_reused(machine) -> None:
    chosen = options(max_slices=2)
    view, maps = setup(machine, chosen)
    planner = Planner(chosen)
    write_content(planner.plan(view, maps), maps)
    memory = memoryview(maps["l4_nat_ports4"].mmap()).cast("Q")
    memory[2 * 50 + 1] = 1 << 48
    other, _ = setup(machine, chosen, nodes=["10.0.0.12", "10.0.0.13"])

    planner.plan(other, maps)
    planner.plan(other, maps)

    assert [2] == list(planner.unroutable)


def test_dnat_needs_ids_but_no_ports(machine) -> None:
    chosen = L4NatOptions(mode="dnat", max_flows=1024)
    view, maps = setup(machine, chosen)

    content = Planner(chosen).plan(view, maps)

    for key, leaf in content["l4_nat_slices"]:
        assert (0, 0, 0, 0) == key["source"]
        assert (0, 0, 0, 255) == tuple(
            leaf[name] for name in ("base", "first_port", "count", "source_index")
        )
    assert [] == content["l4_nat_sources"]


def test_a_lone_balancer_is_permitted_everything_whatever_an_earlier_run_was(machine) -> None:
    view, maps = setup(machine, options())
    maps["l4_nat_lease"].set(0, {"until": 5, "flags": 1})

    content = Planner(options()).plan(view, maps)

    assert [(0, {"until": (1 << 64) - 1, "flags": 0})] == content["l4_nat_lease"]


def test_no_plan_permits_anything_where_flows_are_shared(machine) -> None:
    view, maps = setup(machine, options())
    forwarder = L4Nat(options())
    forwarder.shared = True

    assert [] == forwarder.plan(view, maps)["l4_nat_lease"]


def test_only_the_ports_of_new_slices_are_mapped(machine, monkeypatch) -> None:
    view, maps = setup(machine, options())
    mapped: list[tuple[str, int, int]] = []
    part = FakeMap.mapped

    def noted(self: FakeMap, first: int, count: int) -> object:
        mapped.append((self.name, first, count))
        return part(self, first, count)

    monkeypatch.setattr(FakeMap, "mapped", noted)

    content = Planner(options()).plan(view, maps)

    slices = [slice_from_leaf(leaf) for _, leaf in content["l4_nat_slices"]]
    assert len(slices) > 1
    assert [("l4_nat_ports4", one.base, one.count) for one in slices] == mapped


# in a group


def guest(address: str = "10.0.0.2") -> SourceAddress:
    return SourceAddress(address=ip_address(address), first_port=2000, last_port=2099)


def test_guests_have_slices_and_are_not_in_the_pool(machine) -> None:
    view, maps = setup(machine, options())
    planner = Planner(options())
    planner.guests = (guest(),)

    content = planner.plan(view, maps)

    ((_, settings),) = content["l4_nat_settings"]
    sources = {
        index: leaf["addr"][0].to_bytes(4, "little") for index, leaf in content["l4_nat_sources"]
    }
    by_source = [
        leaf["source_index"] for key, leaf in content["l4_nat_slices"] if key["family"] == 4
    ]
    guests = [n for n, packed in sources.items() if packed == ip_address("10.0.0.2").packed]
    assert 2 == by_source.count(guests[0])
    assert guests[0] not in settings["sources4"][: settings["count4"]]
    assert {"10.0.0.1", "fd00::1"} == {str(one.address) for one in planner.own}


def test_an_own_address_is_no_guest(machine) -> None:
    view, maps = setup(machine, options())
    alone = Planner(options()).plan(view, maps)
    planner = Planner(options())
    planner.guests = (guest("10.0.0.1"),)

    assert alone == planner.plan(view, maps)


def test_guests_without_room_are_told_of(machine) -> None:
    forwarder = L4Nat(options(max_slices=2))
    view, maps = setup(machine, forwarder.options)
    forwarder._planner.guests = (guest(), guest("10.0.0.3"))

    forwarder.plan(view, maps)

    services = list(view.services.values())
    assert any("raise max_slices (now 2)" in n for n in forwarder.notes(services, view.host))
    assert {} == forwarder.unroutable(view)


def test_dnat_has_no_room_to_make(machine) -> None:
    chosen = L4NatOptions(mode="dnat", max_flows=1024)
    view, maps = setup(machine, chosen)
    planner = Planner(chosen)
    alone = planner.plan(view, maps)
    planner.guests = (guest(),)

    content = planner.plan(view, maps)

    assert alone["l4_nat_slices"] == content["l4_nat_slices"]
    assert () == planner.own
