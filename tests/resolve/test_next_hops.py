# SPDX-License-Identifier: Apache-2.0
"""Next hops keep their numbers, and flows never find a withdrawn one valid again."""

import json
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galelb.errors import GaleError
from galelb.model import NextHop
from galelb.resolve.next_hops import GENERATIONS, NextHopTable

NODE = ip_address("10.0.0.1")
OTHER = ip_address("fd00::2")


def hop(last=1, *, ifindex=2, mtu=1500, src="02:00:00:00:00:fe"):
    return NextHop(ifindex=ifindex, dst_mac=f"02:00:00:00:00:{last:02x}", src_mac=src, mtu=mtu)


def learn(table, last=1, ifindex=2):
    return table.client_hop(ifindex, f"02:00:00:00:00:{last:02x}", "02:00:00:00:00:fe", 1500)


def key(last=1, ifindex=2):
    return {"ifindex": ifindex, "dst": bytes([2, 0, 0, 0, 0, last]), "pad": 0}


def leaf(last=1, *, mtu=1500, src=0xFE, flags=1):
    return {
        "ifindex": 2,
        "mtu": mtu,
        "dst": bytes([2, 0, 0, 0, 0, last]),
        "src": bytes([2, 0, 0, 0, 0, src]),
        "flags": flags,
    }


def test_a_key_keeps_its_index_and_new_content_replaces_the_old():
    table = NextHopTable(16)
    index = table.assign(hop())
    table.entries()

    assert index == table.assign(hop(mtu=9000, src="02:00:00:00:00:AA"))
    assert ((index, leaf(mtu=9000, src=0xAA)),) == table.entries().next_hops


def test_nothing_changed_means_nothing_to_write():
    table = NextHopTable(16)
    table.assign(hop())
    table.entries()

    table.assign(hop())

    assert not table.entries()


def test_a_node_is_bound_to_its_next_hop_until_it_is_unresolved():
    table = NextHopTable(16)

    first = table.set_node(NODE, hop(1))
    second = table.set_node(NODE, hop(2))

    assert 1 == first
    assert 2 == second == table.node_index(NODE)
    assert 0 == table.set_node(NODE, None) == table.node_index(NODE)
    assert 1 == table.set_node(NODE, hop(1))


def test_nodes_behind_one_gateway_share_its_object():
    table = NextHopTable(16)

    assert table.set_node(NODE, hop()) == table.set_node(OTHER, hop())
    assert 1 == len(table.entries().next_hops)


def test_a_full_array_takes_the_oldest_object_without_a_node():
    table = NextHopTable(4)
    for last, address in ((1, NODE), (2, OTHER), (3, OTHER)):
        table.set_node(address, hop(last))

    assert 2 == table.set_node(NODE, hop(4))  # 2 was OTHER's before it moved to 3
    assert 1 == table.set_node(OTHER, hop(5))
    assert 3 == table.set_node(ip_address("10.0.0.9"), hop(6))
    assert 0 == table.set_node(ip_address("10.0.0.10"), hop(7))


def test_a_clients_way_is_found_by_interface_and_mac():
    table = NextHopTable(16)

    index = learn(table)
    changes = table.entries()

    assert index == learn(table)
    assert ((index, leaf()),) == changes.next_hops
    assert ((key(), index),) == changes.index_set
    assert () == changes.index_delete


def test_clients_and_nodes_never_share_an_object():
    table = NextHopTable(16)

    assert table.assign(hop()) != learn(table)


def test_invalidating_clients_withdraws_them_and_leaves_nodes_alone():
    table = NextHopTable(16)
    table.set_node(NODE, hop())
    index = learn(table)
    table.entries()

    assert 1 == table.invalidate_clients()
    changes = table.entries()

    assert ((index, leaf(flags=0)),) == changes.next_hops
    assert (key(),) == changes.index_delete
    assert 0 == table.invalidate_clients()


def test_one_mac_or_interface_can_be_withdrawn_alone():
    table = NextHopTable(16)
    learn(table, 1)
    learn(table, 2)
    learn(table, 1, ifindex=3)

    assert 1 == table.invalidate_clients(2, "02:00:00:00:00:01".upper())
    assert 1 == table.invalidate_clients(3)
    assert 1 == table.statistics()["clients_valid"]


def test_a_client_that_is_learned_again_gets_another_index_in_turn():
    table = NextHopTable(16)
    seen = [learn(table)]
    for _ in range(GENERATIONS):
        table.invalidate_clients()
        seen.append(learn(table))

    assert [1, 2, 3, 4, 1] == seen
    assert ((key(), 1),) == table.entries().index_set


def test_clients_leave_room_for_nodes():
    table = NextHopTable(5, reserved_for_nodes=2)

    assert [1, 2, 0] == [learn(table, last) for last in (1, 2, 3)]
    assert [3, 4, 0] == [
        table.set_node(ip_address(f"10.0.0.{last}"), hop(last)) for last in (1, 2, 3)
    ]


def test_a_client_without_room_for_generations_gets_its_index_back():
    table = NextHopTable(4, reserved_for_nodes=2)
    index = learn(table)
    table.invalidate_clients()

    assert index == learn(table)
    assert ((index, leaf()),) == table.entries().next_hops


def test_a_restored_table_keeps_numbers_and_withdraws_clients():
    table = NextHopTable(16)
    node = table.set_node(NODE, hop(1))
    table.set_node(OTHER, hop(2))
    client = learn(table)
    saved = json.loads(json.dumps(table.snapshot()))

    restored = NextHopTable(16)
    restored.restore(saved)
    changes = restored.entries()

    assert node == restored.node_index(NODE) == restored.set_node(NODE, hop(1))
    assert (client, leaf(flags=0)) in changes.next_hops
    assert (key(),) == changes.index_delete
    assert client + 1 == learn(restored)


def test_all_entries_are_for_maps_that_were_just_made():
    table = NextHopTable(16)
    table.assign(hop(1))
    learn(table)
    table.entries()

    changes = table.all_entries()

    assert [1, 2] == [index for index, _ in changes.next_hops]
    assert ((key(), 2),) == changes.index_set
    assert not table.entries()


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"objects": [{"index": 1}], "clients": [], "nodes": {}},
        {"objects": [], "clients": [[5]], "nodes": {}},
        {"objects": [], "clients": [], "nodes": {"10.0.0.1": 3}},
        {"objects": [], "clients": [], "nodes": {"x": 3}},
        {"objects": 3, "clients": [], "nodes": {}},
    ],
)
def test_a_broken_snapshot_is_refused_and_leaves_an_empty_table(data):
    table = NextHopTable(16)

    with pytest.raises(GaleError, match="galelb detach"):
        table.restore(data)

    assert 1 == table.assign(hop())


def test_only_an_empty_table_can_be_restored():
    table = NextHopTable(16)
    table.assign(hop())

    with pytest.raises(ValueError, match="empty"):
        table.restore({})


@pytest.mark.parametrize("capacity", [1, 65537])
def test_a_capacity_must_fit_sixteen_bits(capacity):
    with pytest.raises(ValueError, match="capacity"):
        NextHopTable(capacity)


actions = st.lists(
    st.one_of(
        st.tuples(st.just("node"), st.integers(1, 6), st.integers(0, 8)),
        st.tuples(st.just("client"), st.integers(0, 8), st.just(0)),
        st.tuples(st.just("invalidate"), st.just(0), st.just(0)),
        st.tuples(st.just("write"), st.just(0), st.just(0)),
    )
)


@given(actions, st.integers(2, 12))
def test_maps_that_are_written_as_told_always_agree_with_the_table(steps, capacity):
    table = NextHopTable(capacity)
    hops, index = {}, {}
    for what, first, second in [*steps, ("write", 0, 0)]:
        if what == "node":
            table.set_node(ip_address(f"10.0.0.{first}"), hop(second) if second else None)
        elif what == "client":
            learn(table, first)
        elif what == "invalidate":
            table.invalidate_clients()
        else:
            changes = table.entries()
            for k in changes.index_delete:
                index.pop(tuple(k.values()), None)
            hops.update(changes.next_hops)
            index.update({tuple(k.values()): i for k, i in changes.index_set})
            assert all(hops[i]["flags"] == 1 for i in index.values())
            assert all(hops[i]["dst"] == k[1] for k, i in index.items())
    assert hops == dict(table.all_entries().next_hops)
    assert all(0 < i < capacity for i in hops)
