# SPDX-License-Identifier: Apache-2.0
"""Flows are read from the tables as the programs left them."""

from __future__ import annotations

import struct
import sys
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

import pytest
from galelb_plugins.l4_nat import sweep as sweeping
from galelb_plugins.l4_nat.entries import FIN, RST, SEEN, TCP
from galelb_plugins.l4_nat.flows import FlowReader, IdleSlices, state_name
from galelb_plugins.l4_nat.options import L4NatOptions
from galelb_plugins.l4_nat.planner import Planner
from galelb_plugins.l4_nat.slices import Slice

TICK = 1000


@pytest.mark.parametrize(
    ("forward", "back", "expected"),
    [
        (TCP, 0, "syn_sent"),
        (TCP, TCP | SEEN, "syn_received"),
        (TCP | SEEN, TCP | SEEN, "established"),
        (TCP | SEEN | FIN, TCP | SEEN, "closing"),
        (TCP | SEEN, TCP | SEEN | FIN, "closing"),
        (TCP | SEEN | FIN, TCP | SEEN | FIN, "closed"),
        (TCP | SEEN, TCP | SEEN | RST, "reset"),
        (TCP | RST, 0, "reset"),
        (0, 0, "unreplied"),
        (0, SEEN, "replied"),
    ],
)
def test_both_sides_make_the_state(forward: int, back: int, expected: str) -> None:
    assert expected == state_name(forward, back)


def word(first: int, second: int, state: int, age: int) -> int:
    return first << 48 | second << 32 | state << 16 | age


def put4(table: Any, index: int, client: str, port: int, number: int, value: int) -> None:
    address = int.from_bytes(ip_address(client).packed, sys.byteorder)
    key = address << 32 | port << 16 | number
    struct.pack_into("=QQ", table.mmap(), index * 16, key, value)


def put6(table: Any, index: int, client: str, port: int, number: int, value: int) -> None:
    packed = ip_address(client).packed
    struct.pack_into(
        "=8s8sQQ", table.mmap(), index * 32, packed[:8], packed[8:], port << 16 | number, value
    )


@pytest.fixture
def lab(machine, monkeypatch) -> SimpleNamespace:
    options = L4NatOptions(max_flows=1024, ports=(2000, 2099), max_slices=4)
    services = [machine.service(), machine.service("v6", vip="2001:db8::1")]
    host = machine.host("10.0.0.1", "fd00::1")
    view = machine.view(services, ["10.0.0.11", "fd00::11"], host)
    maps = machine.maps(options, services, host)
    for name, entries in Planner(options).plan(view, maps).items():
        maps[name].update(entries)
    monkeypatch.setattr(sweeping, "sweep", lambda *_: SimpleNamespace(tick=TICK))
    return SimpleNamespace(view=view, maps=maps, datapath=SimpleNamespace(maps=maps))


def test_an_empty_table_has_no_flows(lab) -> None:
    assert [] == list(FlowReader(lab.datapath, lab.view).flows(10))


def test_an_established_flow_is_told_completely(lab) -> None:
    put4(lab.maps["l4_nat_flows4"], 5, "203.0.113.9", 40000, 1, word(1, 2050, TCP | SEEN, TICK - 9))
    put4(lab.maps["l4_nat_ports4"], 50, "203.0.113.9", 40000, 1, word(1, 0, TCP | SEEN, TICK - 4))

    (flow,) = FlowReader(lab.datapath, lab.view).flows(10)

    assert ("web", "203.0.113.9", 40000) == (flow.service, str(flow.client), flow.client_port)
    assert ("10.0.0.11", "10.0.0.1", 2050) == (str(flow.node), str(flow.source), flow.source_port)
    assert ("established", 4 * 256 / 250) == (flow.state, flow.idle_s)


def test_ipv6_flows_are_read_too(lab) -> None:
    slice_id = next(
        leaf["id"] for key, leaf in lab.maps["l4_nat_slices"].items() if key["family"] == 6
    )
    put6(lab.maps["l4_nat_flows6"], 3, "2001:db8::99", 5, 2, word(slice_id, 2001, TCP, TICK))

    (flow,) = FlowReader(lab.datapath, lab.view).flows(10)

    assert ("2001:db8::99", "fd00::11", "fd00::1") == (
        str(flow.client),
        str(flow.node),
        str(flow.source),
    )
    assert "syn_sent" == flow.state


def test_entries_being_written_and_unknown_ones_are_left_out(lab) -> None:
    flows = lab.maps["l4_nat_flows4"]
    put4(flows, 0, "203.0.113.1", 1, 1, 1)
    put4(flows, 1, "203.0.113.2", 1, 99, word(1, 2000, TCP, TICK))
    put4(flows, 2, "203.0.113.3", 1, 1, word(77, 2000, TCP, TICK))

    assert [] == list(FlowReader(lab.datapath, lab.view).flows(10))


def test_a_slot_of_another_flow_says_nothing_about_this_one(lab) -> None:
    put4(lab.maps["l4_nat_flows4"], 5, "203.0.113.9", 40000, 1, word(1, 2050, TCP | SEEN, TICK))
    put4(lab.maps["l4_nat_ports4"], 50, "203.0.113.8", 1, 1, word(1, 0, TCP | SEEN | RST, TICK))

    (flow,) = FlowReader(lab.datapath, lab.view).flows(10)

    assert "syn_sent" == flow.state


def test_the_limit_bounds_the_listing(lab) -> None:
    for number in range(20):
        value = word(1, 2000 + number, TCP, TICK)
        put4(lab.maps["l4_nat_flows4"], number * 7, "203.0.113.9", 4000 + number, 1, value)

    assert 7 == len(list(FlowReader(lab.datapath, lab.view).flows(7)))
    assert 20 == len(list(FlowReader(lab.datapath, lab.view).flows(1000)))


def test_ages_wrap_around(lab) -> None:
    put4(lab.maps["l4_nat_flows4"], 0, "203.0.113.9", 1, 1, word(1, 2000, TCP, 65000))

    (flow,) = FlowReader(lab.datapath, lab.view).flows(10)

    assert (1536 * 256 / 250) == flow.idle_s


def test_a_slice_is_idle_when_all_its_slots_are_free(lab) -> None:
    part = Slice(id=1, base=0, first_port=2000, count=100, node=1, source_index=0)
    before = IdleSlices(4, lab.maps)(part)
    put4(lab.maps["l4_nat_ports4"], 99, "203.0.113.9", 1, 1, word(1, 0, TCP, TICK))

    assert before
    assert not IdleSlices(4, lab.maps)(part)


def test_a_slice_without_ports_is_idle_when_no_entry_names_it(lab) -> None:
    part = Slice(id=3, base=0, first_port=0, count=0, node=1, source_index=255)
    before = IdleSlices(4, lab.maps)(part)
    put4(lab.maps["l4_nat_flows4"], 1000, "203.0.113.9", 1, 1, word(3, 1, TCP, TICK))

    assert before
    assert not IdleSlices(4, lab.maps)(part)
