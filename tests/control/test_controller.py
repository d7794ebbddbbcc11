# SPDX-License-Identifier: Apache-2.0
import ipaddress
import struct
import threading

import attrs
import pytest
import trio
import trio.testing

from galelb.abi import NO_TABLE, NODE_FILTER_WORDS, NodeFlag
from galelb.control.controller import Controller, Served
from galelb.control.identity import Numbering
from galelb.control.numbers import QUIET_S
from galelb.errors import MapError, PluginError
from galelb.flowhash import node_filter
from galelb.forwarder import Forwarder, HostView
from galelb.health import HealthSettings, NodeHealth
from galelb.hooks import hookimpl
from galelb.model import Interface, NextHop, Node, Protocol, Service
from galelb.packing import address_words
from galelb.plugins import Plugins
from galelb.resolve.next_hops import NextHopTable
from galelb.sources import Scheduler
from galelb.tables import slots_needed
from galelb.tables.keeper import TableKeeper, TableSettings
from galelb.testing.fake_maps import FakeMap

SIZE = 251
A, B = ipaddress.ip_address("10.1.0.11"), ipaddress.ip_address("10.1.0.12")
MAC = "02:00:00:00:00:0a"
WEB = Service(
    name="web",
    vip=ipaddress.ip_address("192.0.2.1"),
    port=80,
    protocol=Protocol.TCP,
    target_port=80,
    forwarder="fake",
)


class FakeForwarder(Forwarder):
    name = "fake"
    refused = ()

    def plan(self, view, maps):
        return {"fake_nodes": [(number, int(node.address)) for number, node in view.nodes.items()]}

    def unroutable(self, view):
        return {n: "no room" for n, node in view.nodes.items() if node.address in self.refused}


def host():
    interface = Interface(name="eth0", ifindex=2, mac=MAC, mtu=1500)
    return HostView(
        private=interface,
        public=interface,
        ip_local_port_range=(32768, 60999),
        tick_shift=8,
        hz=250,
        flow_seed=1,
    )


@pytest.fixture
def maps():
    sizes = {"gale_services": 16, "gale_nodes": 16, "gale_next_hops": 16, "fake_nodes": 16}
    fakes = {name: FakeMap(name, size) for name, size in sizes.items()}
    fakes["gale_next_hop_index"] = FakeMap("gale_next_hop_index", 16)
    fakes["gale_node_addresses"] = FakeMap("gale_node_addresses", 16)
    fakes["gale_node_filter"] = FakeMap("gale_node_filter", NODE_FILTER_WORDS)
    fakes["gale_slots"] = FakeMap("gale_slots", slots_needed(SIZE, 4), leaf_size=8)
    return fakes


@pytest.fixture
def controller(maps):
    health = NodeHealth(
        HealthSettings(
            checks_before_routing=3,
            checks_timeout=5,
            black_list_after_fails=5,
            black_list_expiry=300,
        )
    )
    tables = TableKeeper(Plugins(), TableSettings(size=SIZE, seed=0))
    tables.use(maps["gale_slots"], {})
    return Controller(
        health=health, nodes=Numbering("node", 15), next_hops=NextHopTable(16), tables=tables
    )


def add(controller, address, *, resolved=True):
    controller.health.add_static(Node(address=address), trio.current_time())
    if resolved:
        hop = NextHop(ifindex=2, dst_mac=MAC, src_mac=MAC, mtu=1500)
        controller.next_hops.set_node(address, hop)
        controller.health.set_neighbour(address, MAC, trio.current_time())


def served(maps, services=None, forwarder=None, **changes):
    return Served(
        services={1: WEB} if services is None else services,
        forwarders={"fake": forwarder or FakeForwarder(None)},
        host=host(),
        maps=maps,
        **changes,
    )


def slots(maps, first):
    memory = maps["gale_slots"].mmap()
    return struct.unpack_from(f"={SIZE}H", memory, first * 8)


async def test_a_service_without_nodes_has_no_table(controller, maps):
    await controller.serve(served(maps))

    assert maps["gale_services"].get(1)["table"] == NO_TABLE


async def test_every_slot_names_a_routable_node_by_its_number(controller, maps):
    add(controller, A)
    add(controller, B)
    await controller.serve(served(maps))

    assert {1, 2} == set(slots(maps, maps["gale_services"].get(1)["table"]))
    assert maps["gale_nodes"].get(1)["flags"] == NodeFlag.PRESENT
    assert maps["gale_nodes"].get(1)["next_hop"] == controller.next_hops.node_index(A) > 0


class Second(Scheduler):
    """Gives all slots to the second node."""

    name = "second"

    def build(self, nodes, size, seed):
        return [1] * size


def use_second(controller):
    """Have another scheduler, as `Plugins.configure` and a reload do."""
    core = controller.tables._plugins._core
    core.schedulers = {**core.schedulers, "second": Second(None)}


async def test_services_have_schedulers_of_their_own(controller, maps):
    use_second(controller)
    add(controller, A)
    add(controller, B)
    other = attrs.evolve(WEB, name="other", port=81, scheduler="second")
    await controller.serve(served(maps, {1: WEB, 2: other}))

    assert {1, 2} == set(slots(maps, maps["gale_services"].get(1)["table"]))
    assert {2} == set(slots(maps, maps["gale_services"].get(2)["table"]))


async def test_another_scheduler_replaces_the_table_of_the_same_nodes(controller, maps):
    add(controller, A)
    add(controller, B)
    await controller.serve(served(maps))
    before = maps["gale_services"].get(1)["table"]
    use_second(controller)

    await controller.serve(served(maps, {1: attrs.evolve(WEB, scheduler="second")}))

    after = maps["gale_services"].get(1)["table"]
    assert before != after
    assert {2} == set(slots(maps, after))


async def test_other_options_of_a_scheduler_replace_the_table(controller, maps):
    add(controller, A)
    await controller.serve(served(maps))
    before = maps["gale_services"].get(1)["table"]

    async with controller.between_plans():
        changed = {"maglev": "maglev {turns: 2}"}
        controller.tables.settings = TableSettings(size=SIZE, seed=0, schedulers=changed)
    await controller.serve(served(maps))

    assert maps["gale_services"].get(1)["table"] != before


async def test_numbers_are_found_by_address(controller, maps):
    words = address_words(ipaddress.ip_address("10.1.0.99"))
    maps["gale_node_addresses"].set({"addr": words}, 7)  # of an earlier run
    add(controller, A)
    await controller.serve(served(maps))
    before = maps["gale_node_addresses"].writes
    await controller.serve(served(maps))

    assert [({"addr": address_words(A)}, 1)] == list(maps["gale_node_addresses"].items())
    assert node_filter([A]) == [word for _, word in maps["gale_node_filter"].items()]
    assert before == maps["gale_node_addresses"].writes


async def test_a_node_that_one_forwarder_refuses_serves_the_others(controller, maps):
    class Refusing(FakeForwarder):
        name = "refusing"

        def plan(self, view, maps):
            return {}

        def unroutable(self, view):
            return {1: "too far"}

    add(controller, A)
    add(controller, B)
    other = attrs.evolve(WEB, name="other", port=81, target_port=81, forwarder="refusing")
    both = served(maps, {1: WEB, 2: other})
    await controller.serve(
        attrs.evolve(both, forwarders={**both.forwarders, "refusing": Refusing(None)})
    )

    tables = [maps["gale_services"].get(number)["table"] for number in (1, 2)]
    assert [{1, 2}, {2}] == [set(slots(maps, table)) for table in tables]
    assert {} == controller.unroutable


async def test_a_service_takes_nodes_of_the_other_family_where_its_forwarder_can(controller, maps):
    class Tunnel(FakeForwarder):
        any_family = True

    add(controller, ipaddress.ip_address("fd00::1"))
    await controller.serve(served(maps, forwarder=Tunnel(None)))

    assert {1} == set(slots(maps, maps["gale_services"].get(1)["table"]))
    assert maps["gale_nodes"].get(1)["flags"] == NodeFlag.PRESENT | NodeFlag.IPV6


async def test_an_unresolved_node_is_known_but_in_no_table(controller, maps):
    add(controller, A)
    add(controller, B, resolved=False)
    await controller.serve(served(maps))

    assert {1} == set(slots(maps, maps["gale_services"].get(1)["table"]))
    assert maps["gale_nodes"].get(2)["next_hop"] == 0


async def test_a_node_that_the_forwarder_refuses_is_in_no_table(controller, maps):
    add(controller, A)
    add(controller, B)
    forwarder = FakeForwarder(None)
    forwarder.refused = (A,)
    await controller.serve(served(maps, forwarder=forwarder))

    assert {2} == set(slots(maps, maps["gale_services"].get(1)["table"]))
    assert controller.unroutable == {A: "no room"}


async def test_a_change_moves_the_service_to_a_table_nobody_reads(controller, maps, nursery):
    add(controller, A)
    await controller.serve(served(maps))
    before = maps["gale_services"].get(1)["table"]
    old_slots = slots(maps, before)
    await nursery.start(controller.run)

    add(controller, B)
    controller.wake()
    while maps["gale_services"].get(1)["table"] == before:
        await trio.sleep(0.01)

    assert old_slots == slots(maps, before)
    assert {1, 2} == set(slots(maps, maps["gale_services"].get(1)["table"]))


class Slow(Scheduler):
    """Builds a table of two nodes only when it may."""

    name = "slow"

    def __init__(self):
        self.begun, self.may_end = threading.Event(), threading.Event()

    def build(self, nodes, size, seed):
        if len(nodes) == 2:
            self.begun.set()
            self.may_end.wait()
        return [slot % len(nodes) for slot in range(size)]


def switch(controller, maps):
    """What a reload does before it serves: it goes on with the same slots."""

    async def go_over():
        controller.tables.use(maps["gale_slots"], controller.tables.regions())

    return go_over


async def test_no_maps_are_switched_under_a_plan(controller, maps, nursery):
    slow = Slow()
    controller.tables._plugins._core.schedulers = {"slow": slow}
    service = attrs.evolve(WEB, scheduler="slow")
    add(controller, A)
    await controller.serve(served(maps, {1: service}))
    await nursery.start(controller.run)
    add(controller, B)
    controller.wake()
    await trio.to_thread.run_sync(slow.begun.wait)

    async with trio.open_nursery() as reload:
        reload.start_soon(controller.serve, served(maps, {1: service}), switch(controller, maps))
        await trio.testing.wait_all_tasks_blocked()
        slow.may_end.set()

    assert {1, 2} == set(slots(maps, maps["gale_services"].get(1)["table"]))
    assert controller.tables.table(1).first == maps["gale_services"].get(1)["table"]


class Watcher:
    def __init__(self):
        self.told = []

    @hookimpl
    def galelb_table_changed(self, service, digest, moved):
        self.told.append((service.name, moved))


async def test_after_a_switch_it_is_told_what_really_moved(controller, maps):
    watcher = Watcher()
    controller.tables._plugins.watch(watcher, "watcher")
    add(controller, A)
    await controller.serve(served(maps))
    assert watcher.told == [("web", 1.0)]

    await controller.serve(served(maps), switch(controller, maps))
    add(controller, B)
    await controller.serve(served(maps), switch(controller, maps))
    controller.health.remove(A, trio.current_time())
    controller.health.remove(B, trio.current_time())
    await controller.serve(served(maps), switch(controller, maps))

    assert [("web", pytest.approx(0.5, abs=0.01)), ("web", 1.0)] == watcher.told[1:]


async def test_an_unchanged_plan_writes_nothing(controller, maps, nursery):
    add(controller, A)
    await controller.serve(served(maps))
    await nursery.start(controller.run)
    before = {name: one.writes for name, one in maps.items()}

    plans = controller.plans
    controller.wake()
    while controller.plans == plans:
        await trio.sleep(0.01)
    await trio.testing.wait_all_tasks_blocked()

    assert before == {name: one.writes for name, one in maps.items()}


async def test_services_with_the_same_nodes_share_one_table(controller, maps):
    other = Service(
        name="other",
        vip=WEB.vip,
        port=81,
        protocol=Protocol.TCP,
        target_port=81,
        forwarder="fake",
    )
    add(controller, A)
    await controller.serve(served(maps, {1: WEB, 2: other}))

    assert maps["gale_services"].get(1)["table"] == maps["gale_services"].get(2)["table"]


async def test_a_service_goes_over_to_a_table_that_is_whole_and_the_old_one_stays(
    controller, maps, monkeypatch
):
    add(controller, A)
    await controller.serve(served(maps))
    old = maps["gale_services"].get(1)["table"]
    pointed = []
    write = maps["gale_services"].set

    def look_and_write(key, leaf):
        pointed.append((leaf["table"], set(slots(maps, leaf["table"])), set(slots(maps, old))))
        write(key, leaf)

    monkeypatch.setattr(maps["gale_services"], "set", look_and_write)
    add(controller, B)
    await controller.serve(served(maps))

    [(new, named, formerly)] = pointed
    assert old != new
    assert ({1, 2}, {1}) == (named, formerly)


async def test_a_retired_service_is_cleared(controller, maps):
    add(controller, A)
    await controller.serve(served(maps))
    await controller.serve(served(maps, {}, retired=(1,)))

    assert maps["gale_services"].get(1)["table"] == NO_TABLE
    assert maps["gale_services"].get(1)["family"] == 0


async def test_a_removed_node_is_cleared_and_keeps_its_number(controller, maps):
    add(controller, A)
    await controller.serve(served(maps))
    controller.health.remove(A, trio.current_time())
    await controller.serve(served(maps))

    assert maps["gale_nodes"].get(1)["flags"] == 0
    assert controller.nodes.number(str(A)) == 1


async def test_a_failed_plan_is_made_whole_by_the_next_one(controller, maps, nursery):
    await controller.serve(served(maps))
    await nursery.start(controller.run)
    real = maps["gale_nodes"].update
    failed = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def fail(entries):
        token.run_sync_soon(failed.set)
        raise MapError("gale_nodes", "update", "no memory")

    maps["gale_nodes"].update = fail
    add(controller, A)
    controller.wake()
    await failed.wait()
    maps["gale_nodes"].update = real
    controller.wake()
    while maps["gale_services"].get(1)["table"] == NO_TABLE:
        await trio.sleep(0.01)

    index = maps["gale_nodes"].get(1)["next_hop"]
    assert MAC.replace(":", "") == maps["gale_next_hops"].get(index)["dst"].hex()


async def test_a_number_is_remembered_before_any_map_names_it(controller, maps):
    seen = []

    async def remember():
        seen.append((controller.nodes.known(), maps["gale_nodes"].writes))

    controller.remember = remember
    add(controller, A)
    await controller.serve(served(maps))

    assert ({str(A): 1}, 0) == seen[-1]


async def test_without_a_free_number_a_node_waits_and_the_others_are_served(controller, maps):
    controller.nodes.limit = 1
    add(controller, A)
    add(controller, B)
    await controller.serve(served(maps))

    assert {1} == set(slots(maps, maps["gale_services"].get(1)["table"]))
    assert [B] == list(controller.unroutable)
    assert controller.view().nodes.keys() == {1}


async def test_a_number_that_no_flow_holds_goes_to_another_node(
    controller, maps, nursery, autojump_clock
):
    controller.nodes.limit = 1
    add(controller, A)
    await controller.serve(served(maps))
    controller.health.remove(A, trio.current_time())
    add(controller, B)
    await controller.serve(served(maps))
    waiting = dict(controller.unroutable)

    await trio.sleep(QUIET_S)
    await controller.serve(served(maps))

    assert [B] == list(waiting)
    assert {str(B): 1} == controller.nodes.known()
    assert {1} == set(slots(maps, maps["gale_services"].get(1)["table"]))


async def test_a_forwarder_whose_plan_fails_is_named(controller, maps):
    class Broken(FakeForwarder):
        def plan(self, view, maps):
            return {"no_such_map": [(1, 1)]}

    with pytest.raises(PluginError, match=r"fake.*plan failed: KeyError"):
        await controller.serve(served(maps, forwarder=Broken(None)))


async def test_more_nodes_than_slots_leave_some_out_and_serve_the_rest(controller, maps):
    controller.tables.settings = TableSettings(size=3, seed=0)
    for last in range(1, 6):
        add(controller, ipaddress.ip_address(f"10.1.0.{last}"))
    await controller.serve(served(maps))

    first = maps["gale_services"].get(1)["table"]
    memory = maps["gale_slots"].mmap()
    assert {1, 2, 3} == set(struct.unpack_from("=3H", memory, first * 8))


async def test_an_adopted_table_that_is_not_what_was_saved_is_written_anew(controller, maps):
    add(controller, A)
    await controller.serve(served(maps))
    key = controller.tables.table(1).spec.digest
    memory = maps["gale_slots"].mmap()
    memory[: SIZE * 2] = b"\x07\0" * SIZE
    controller.tables.use(maps["gale_slots"], {key: 0})
    await controller.serve(served(maps))

    assert maps["gale_services"].get(1)["table"] == 0
    assert {1} == set(slots(maps, 0))


async def test_a_forwarder_is_told_which_nodes_are_behind_a_router(controller, maps):
    add(controller, A)
    add(controller, B)
    controller.gateway_of = {A: B}.get
    await controller.serve(served(maps))

    assert {A: B, B: None} == {n.address: n.gateway for n in controller.view().nodes.values()}


async def test_more_tables_change_at_once_than_there_is_room_for(controller, maps, autojump_clock):
    """Three tables lie in room for four, and all of them are replaced."""
    add(controller, A)
    add(controller, B)
    sets = {1: (A,), 2: (B,), 3: (A, B)}
    services = {n: attrs.evolve(WEB, name=f"s{n}", port=n, nodes=sets[n]) for n in sets}
    await controller.serve(served(maps, services))

    for address in (A, B):
        controller.health.set_weight(address, 5, trio.current_time())
    await controller.serve(served(maps, services))

    tables = {number: controller.tables.table(number) for number in services}
    for number, table in tables.items():
        assert {5} == {weight for _, weight in table.spec.nodes}
        assert maps["gale_services"].get(number)["table"] == table.first
    assert {1, 2} == set(slots(maps, tables[3].first))
