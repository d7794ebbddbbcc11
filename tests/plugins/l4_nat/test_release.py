# SPDX-License-Identifier: Apache-2.0
"""Nodes and services that are gone are let go of only when no flow holds them."""

from __future__ import annotations

import struct
from ipaddress import ip_address

from galelb_plugins.l4_nat.codec import NO_SLICE, slice_from_leaf, slice_key_from_struct
from galelb_plugins.l4_nat.options import L4NatOptions
from galelb_plugins.l4_nat.planner import Planner
from galelb_plugins.l4_nat.release import held_services, release_nodes

A, B = ip_address("10.0.0.11"), ip_address("10.0.0.12")
IN_USE = 1 << 48


def planned(machine, mode="full_nat"):
    options = L4NatOptions(max_flows=1024, ports=(2000, 2099), max_slices=4, mode=mode)
    services, host = [machine.service()], machine.host("10.0.0.1")
    maps = machine.maps(options, services, host)
    view = machine.view(services, [str(A), str(B)], host)
    for name, entries in Planner(options).plan(view, maps).items():
        maps[name].update(entries)
    return maps


def slices(maps):
    return {
        slice_key_from_struct(key).node: slice_from_leaf(leaf)
        for key, leaf in maps["l4_nat_slices"].items()
    }


def put(table, index, key, word):
    struct.pack_into("=QQ", table.mmap(), index * 16, key, word)


def test_an_idle_node_is_released_with_its_slices(machine):
    maps = planned(machine)

    assert (A,) == release_nodes([A], maps)
    assert {B} == set(slices(maps))


def test_a_node_whose_ports_are_in_use_or_in_quarantine_is_kept(machine):
    maps = planned(machine)
    put(maps["l4_nat_ports4"], slices(maps)[A].base + 7, 1, 1)

    assert (B,) == release_nodes([A, B], maps)
    assert {A} == set(slices(maps))


def test_without_source_ports_the_flows_decide(machine):
    maps = planned(machine, "dnat")
    put(maps["l4_nat_flows4"], 3, 1 << 32, slices(maps)[B].id << 48)

    assert (A,) == release_nodes([A, B], maps)


def test_a_node_that_never_had_a_slice_is_free(machine):
    stranger = ip_address("10.0.0.99")

    assert (stranger,) == release_nodes([stranger], planned(machine))


def test_services_of_flows_are_held(machine):
    maps = planned(machine)
    put(maps["l4_nat_flows4"], 3, 9 << 32 | 80 << 16 | 7, IN_USE)
    put(maps["l4_nat_flows4"], 4, 9 << 32 | 80 << 16 | 8, 0)

    assert {7} == held_services(maps)


def test_a_slice_that_is_given_up_is_not_found_by_its_id_either(machine):
    maps = planned(machine)
    given_up = slices(maps)[A].id

    release_nodes([A], maps)

    assert NO_SLICE == maps["l4_nat_slice_ids"].get(given_up)
