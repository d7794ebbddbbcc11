# SPDX-License-Identifier: Apache-2.0
import ipaddress
import socket
import struct
import sys

import attrs

from galelb.abi import NO_TABLE, NodeFlag
from galelb.control.planning import eligible_nodes, node_leaf, service_leaf
from galelb.model import Node, NodeRecord, NodeState, Protocol, Service
from galelb.packing import address_words, network_port

V4 = ipaddress.ip_address("10.1.0.11")
V6 = ipaddress.ip_address("fd00::11")
SERVICE = Service(
    name="web",
    vip=ipaddress.ip_address("192.0.2.1"),
    port=80,
    protocol=Protocol.TCP,
    target_port=8080,
    forwarder="l4_nat",
)


def record(address=V4, state=NodeState.ROUTABLE, **changes):
    weight = changes.pop("weight", 1)
    return NodeRecord(
        node=Node(address=address, weight=weight),
        state=state,
        **{"neighbour": "02:00:00:00:00:01"} | changes,
    )


def test_address_words_lie_in_memory_in_network_order():
    assert V4.packed + bytes(12) == struct.pack("=4I", *address_words(V4))
    assert V6.packed == struct.pack("=4I", *address_words(V6))


def test_ports_lie_in_memory_in_network_order():
    assert struct.pack("!H", 8080) == struct.pack("=H", network_port(8080))


def test_a_service_without_a_table_says_so():
    assert service_leaf(SERVICE, None)["table"] == NO_TABLE
    assert service_leaf(SERVICE, 0)["table"] == 0


def test_a_service_leaf_holds_the_target_port():
    assert socket.htons(8080) == service_leaf(SERVICE, None)["target_port"]


def test_node_flags_follow_the_state():
    assert NodeFlag.PRESENT == node_leaf(record(), 3)["flags"]
    assert NodeFlag.PRESENT | NodeFlag.DOWN == node_leaf(record(state=NodeState.DOWN), 3)["flags"]
    assert NodeFlag.PRESENT | NodeFlag.DRAINING == node_leaf(record(draining=True), 3)["flags"]


def test_only_nodes_that_take_new_flows_are_eligible():
    records = [
        record(),
        record(ipaddress.ip_address("10.1.0.12"), state=NodeState.PROBATION),
        record(ipaddress.ip_address("10.1.0.13"), draining=True),
        record(ipaddress.ip_address("10.1.0.14"), neighbour=None),
        record(ipaddress.ip_address("10.1.0.15"), weight=0),
        record(ipaddress.ip_address("10.1.0.16"), weight=3),
        record(V6),
    ]

    assert eligible_nodes(SERVICE, records, {}) == (("10.1.0.11", 1), ("10.1.0.16", 3))


def test_a_service_may_name_its_nodes():
    service = attrs.evolve(SERVICE, nodes=(ipaddress.ip_address("10.1.0.12"),))

    assert eligible_nodes(service, [record()], {}) == ()


def test_a_node_the_forwarder_cannot_take_is_left_out():
    assert eligible_nodes(SERVICE, [record()], {V4: "no port slices left"}) == ()


def test_words_use_the_byte_order_of_the_machine():
    assert int.from_bytes(V4.packed, sys.byteorder) == address_words(V4)[0]


def shared(*records, **more):
    return dict(eligible_nodes(SERVICE, records, (), **more))


def test_a_node_that_starts_or_is_busy_weighs_less():
    nodes = shared(
        record(weight=4),
        record(ipaddress.ip_address("10.1.0.12"), weight=4, start_share=35),
        record(ipaddress.ip_address("10.1.0.13"), weight=4, load_share=60),
        record(ipaddress.ip_address("10.1.0.14"), weight=4, start_share=50, load_share=80),
    )

    assert nodes == {"10.1.0.11": 4, "10.1.0.12": 1.4, "10.1.0.13": 2.4, "10.1.0.14": 1.6}


def test_whole_weights_stay_whole_numbers():
    (weight,) = shared(record(weight=4)).values()

    assert (4, int) == (weight, type(weight))


def test_without_state_a_slow_start_changes_a_table_five_times():
    """Twenty steps where only new flows move, five where each step moves live connections."""
    starting = ipaddress.ip_address("10.1.0.12")

    def tables(stateful):
        shares = range(5, 101, 5)
        records = [(record(), record(starting, start_share=share)) for share in shares]
        return list(
            dict.fromkeys(eligible_nodes(SERVICE, r, (), stateful=stateful) for r in records)
        )

    assert [0.2, 0.4, 0.6, 0.8, 1] == [dict(table)[str(starting)] for table in tables(False)]
    assert 20 == len(tables(True))


def test_when_all_have_less_alike_they_have_all():
    other = ipaddress.ip_address("10.1.0.12")

    nodes = shared(record(weight=2, load_share=40), record(other, weight=3, load_share=40))

    assert nodes == {"10.1.0.11": 2, "10.1.0.12": 3}
