# SPDX-License-Identifier: Apache-2.0
"""The node hash spreads clients evenly and is the same for ever."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv4Address, IPv6Address

from galelb.flowhash import flow_hash, flow_slot, node_filter
from galelb.model import IPAddress


def test_the_hash_never_changes() -> None:
    assert [
        flow_hash(IPv4Address("198.51.100.7"), 40000, 7),
        flow_hash(IPv6Address("2001:db8::7"), 40000, 7),
    ] == [0x929234F0, 0xA77DFF90]


def test_another_seed_is_another_hash() -> None:
    client = IPv4Address("198.51.100.7")

    assert flow_hash(client, 40000, 7) != flow_hash(client, 40000, 8)


def test_slots_cover_the_table_evenly() -> None:
    first = int(IPv4Address("10.0.0.0"))
    flows = ((IPv4Address(first + n % 1000), 1024 + n // 1000) for n in range(20_000))

    used = Counter(flow_slot(client, port, 1, 100) for client, port in flows)

    assert set(range(100)) == set(used)
    assert max(used.values()) < 1.35 * 200
    assert min(used.values()) > 0.65 * 200


def test_the_filter_knows_every_node_and_few_others() -> None:
    nodes = [IPv4Address("10.0.0.0") + n for n in range(500)]
    nodes += [IPv6Address("fd00::") + n for n in range(500)]
    words = node_filter(nodes)

    def may_be(address: IPAddress) -> bool:
        return any(a & b for a, b in zip(words, node_filter([address]), strict=True))

    assert all(map(may_be, nodes))
    strangers = [IPv4Address("203.0.113.0") + n for n in range(1000)]
    assert sum(map(may_be, strangers)) < 150
