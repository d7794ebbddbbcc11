# SPDX-License-Identifier: Apache-2.0
"""The flow table as packets see it: choice, reuse, eviction, ports, down nodes, import, sweep."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from ipaddress import ip_address

import numpy as np
import pytest
from galelb_plugins.l4_nat.entries import EntryTable
from galelb_plugins.l4_nat.importer import FLOW_TYPE, Importer
from galelb_plugins.l4_nat.options import L4NatOptions
from galelb_plugins.l4_nat.plugin import L4Nat
from galelb_plugins.l4_nat.sweep import What, current_tick, sweep

from galelb.abi import NodeFlag, Reason
from galelb.flowhash import flow_slot
from galelb.forwarder import HostView
from galelb.model import Protocol, Service
from galelb.tables.maglev import build_table
from galelb.testing.conversation import Conversation
from galelb.testing.dissect import dissect
from galelb.testing.kernel import Sandbox
from galelb.testing.runner import TABLE_SEED, TABLE_SIZE, Outcome, PacketRunner
from galelb.testing.world import PRIVATE, PUBLIC, build_world

pytestmark = pytest.mark.bpf

TCP = Service(
    name="web",
    vip=ip_address("198.51.100.1"),
    port=80,
    protocol=Protocol.TCP,
    target_port=8080,
    forwarder="l4_nat",
)
CLIENT = "203.0.113.9"


class TinyNat(L4Nat):
    """l4_nat with room for four flows: both buckets of a key are the same one."""

    def defines(self, services: Sequence[Service], host: HostView) -> Mapping[str, int | str]:
        return {**super().defines(services, host), "L4_NAT_BUCKETS4": 1}


@pytest.fixture
def make() -> Iterator[Callable[..., PacketRunner]]:
    with ExitStack() as stack:

        def build(kind: type[L4Nat] = L4Nat, **options: object) -> PacketRunner:
            sandbox = stack.enter_context(Sandbox())
            world = build_world(sandbox)
            values = {"max_flows": 1024, "max_slices": 16} | options
            forwarder = kind(L4NatOptions(**values))
            return stack.enter_context(PacketRunner(sandbox, world, [TCP], forwarder))

        yield build


def begin(runner: PacketRunner, port: int, flags: str = "S") -> tuple[Conversation, Outcome]:
    talk = Conversation(TCP, CLIENT, port)
    outcome = runner.run(talk.to_vip(flags=flags), PUBLIC)
    if outcome.reason is Reason.FORWARDED:
        talk.learn(outcome.data, runner.world.nodes)
    return talk, outcome


def establish(runner: PacketRunner, port: int) -> Conversation:
    talk, _ = begin(runner, port)
    assert Reason.RETURNED == runner.run(talk.from_node(flags="SA"), PRIVATE).reason
    assert Reason.FORWARDED == runner.run(talk.to_vip(flags="A"), PUBLIC).reason
    return talk


def set_age(runner: PacketRunner, name: str, ticks: int) -> None:
    """Make all entries in use look `ticks` older."""
    data = memoryview(runner.maps[name].mmap()).cast("Q")
    for at in range(1, len(data), 2):
        if data[at] > 1:
            data[at] = data[at] & ~0xFFFF | (data[at] - ticks) & 0xFFFF


def used(runner: PacketRunner, name: str = "l4_nat_flows4") -> int:
    return sum(1 for _ in EntryTable(runner.maps[name], 4).used())


def test_program_and_python_choose_the_same_node(make) -> None:
    runner = make()
    nodes = [n for n in runner.world.nodes if n.address.version == 4]
    table = build_table([(str(n.address), 1) for n in nodes], TABLE_SIZE, 0)

    chosen = [begin(runner, port)[1].node for port in range(30_000, 30_040)]

    client = ip_address(CLIENT)
    slots = [flow_slot(client, port, TABLE_SEED, TABLE_SIZE) for port in range(30_000, 30_040)]
    assert [nodes[table[slot]].index for slot in slots] == chosen


def test_a_syn_on_a_closed_flow_gets_a_fresh_port(make) -> None:
    runner = make()
    talk = establish(runner, 40000)
    before = talk.source_port
    runner.run(talk.to_vip(flags="FA"), PUBLIC)
    runner.run(talk.from_node(flags="FA"), PRIVATE)

    _, again = begin(runner, 40000)

    packet = dissect(again.data)
    assert packet is not None
    assert before != packet.sport
    assert 1 == used(runner)


def test_a_rst_without_a_flow_is_dropped(make) -> None:
    runner = make()

    _, outcome = begin(runner, 40000, flags="R")

    assert Reason.NO_FLOW == outcome.reason
    assert 0 == used(runner)


def test_a_full_table_gives_up_half_open_flows(make) -> None:
    runner = make(TinyNat)
    for port in range(4):
        begin(runner, 40000 + port)

    _, outcome = begin(runner, 41000)

    assert Reason.FORWARDED == outcome.reason
    assert 4 == used(runner)


def test_a_full_table_never_gives_up_established_flows(make) -> None:
    runner = make(TinyNat)
    talks = [establish(runner, 40000 + port) for port in range(4)]

    _, outcome = begin(runner, 41000)

    assert Reason.TABLE_FULL == outcome.reason
    for talk in talks:
        assert Reason.FORWARDED == runner.run(talk.to_vip(flags="A"), PUBLIC).reason
        assert Reason.RETURNED == runner.run(talk.from_node(flags="A"), PRIVATE).reason


def test_a_full_table_gives_up_expired_flows(make) -> None:
    runner = make(TinyNat)
    for port in range(4):
        establish(runner, 40000 + port)
    for name in ("l4_nat_flows4", "l4_nat_ports4"):
        set_age(runner, name, runner.world.host.ticks(7200) + 5)

    _, outcome = begin(runner, 41000)

    assert Reason.FORWARDED == outcome.reason


def test_ports_run_out_and_come_back_after_quarantine(make) -> None:
    runner = make(ports="2000-2001")
    made = [begin(runner, port)[1].reason for port in range(40000, 40040)]
    for name in ("l4_nat_flows4", "l4_nat_ports4"):
        set_age(runner, name, runner.world.host.ticks(120) + 5)

    _, after = begin(runner, 42000)

    assert 6 == made.count(Reason.FORWARDED)
    assert 34 == made.count(Reason.TABLE_FULL)
    assert Reason.FORWARDED == after.reason


def test_a_silent_down_node_is_waited_for_then_its_client_is_reset(make) -> None:
    runner = make()
    talk = establish(runner, 40000)
    runner.set_node(talk.reached, NodeFlag.PRESENT | NodeFlag.DOWN, next_hop=0)

    marked = runner.run(talk.to_vip(flags="A"), PUBLIC)
    set_age(runner, "l4_nat_ports4", 100)
    set_age(runner, "l4_nat_flows4", runner.world.host.ticks(10) + 5)
    gone = runner.run(talk.to_vip(flags="A", seq=5000, ack=7000), PUBLIC)

    packet = dissect(gone.data)
    assert packet is not None
    assert Reason.NO_NEIGHBOUR == marked.reason
    assert Reason.RESET_SENT == gone.reason
    assert (CLIENT, 40000, 0x04) == (str(packet.dst), packet.dport, gone.data[47])
    assert 7000 == int.from_bytes(gone.data[38:42], "big")
    assert 0 == used(runner)


def test_a_down_node_that_answers_keeps_its_flows(make) -> None:
    runner = make()
    talk = establish(runner, 40000)
    runner.set_node(talk.reached, NodeFlag.PRESENT | NodeFlag.DOWN)

    runner.run(talk.to_vip(flags="A"), PUBLIC)
    set_age(runner, "l4_nat_flows4", 100)
    runner.run(talk.from_node(flags="A"), PRIVATE)

    assert Reason.FORWARDED == runner.run(talk.to_vip(flags="A"), PUBLIC).reason
    assert 1 == used(runner)


def test_the_sweep_removes_expired_flows_and_frees_their_ports(make) -> None:
    runner = make()
    for port in range(40000, 40010):
        begin(runner, port)
    for name in ("l4_nat_flows4", "l4_nat_ports4"):
        set_age(runner, name, runner.world.host.ticks(70) + 5)
    establish(runner, 41000)

    flows = sweep(runner, What.FLOWS, 4, 0, 100)
    ports = sweep(runner, What.PORTS, 4, 0, 1 << 15)

    assert (10, 1, 1) == (flows.removed, flows.used, flows.established)
    assert (10, 1, 0) == (ports.removed, ports.used, ports.quarantined)
    assert flows.done
    assert ports.done
    assert 1 == used(runner)


def flow_record(port: int, source_port: int, slice_id: int) -> tuple[object, ...]:
    client = struct.unpack("4I", ip_address(CLIENT).packed.ljust(16, b"\0"))
    return client, slice_id, port, source_port, 1, 4, 0x09, 0x09, 0, 3, 4, 0, 0


def load(runner: PacketRunner, flows: Sequence[tuple[object, ...]]) -> list[int]:
    """Import flows; returns their results."""
    return Importer(runner).take_in(np.array(flows, FLOW_TYPE)).tolist()


def test_imported_flows_go_on_where_they_were(make) -> None:
    runner = make()
    (slice_id,) = {
        leaf["id"]
        for key, leaf in runner.maps["l4_nat_slices"].items()
        if leaf["node"] == 2 and key["family"] == 4
    }

    results = load(
        runner,
        [
            flow_record(40000, 5000, slice_id),
            flow_record(40000, 5001, slice_id),
            flow_record(40001, 5000, slice_id),
        ],
    )
    talk, outcome = begin(runner, 40000, flags="A")

    assert [0, Reason.TABLE_FULL, Reason.TABLE_FULL] == results
    assert (2, 5000) == (outcome.node, talk.source_port)
    assert Reason.RETURNED == runner.run(talk.from_node(flags="A"), PRIVATE).reason
    assert 1 == used(runner)


def test_the_tick_is_told_without_sweeping(make) -> None:
    runner = make()

    first, second = current_tick(runner), current_tick(runner)

    assert 0 <= (second - first) & 0xFFFF <= 10
