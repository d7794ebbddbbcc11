# SPDX-License-Identifier: Apache-2.0
"""Every node gets its share, in every shape of network."""

from collections import Counter
from typing import Any

import pytest

from galelb.lab.clients import collect
from galelb.lab.hosts import Role
from galelb.lab.http_client import Target
from galelb.lab.jobs import Requests
from galelb.lab.session import open_lab
from galelb.lab.state import LabState, new_spec

REQUESTS = 1200
TOLERANCE = 0.25

SHAPES = {
    "default": {},
    "weights": {"weights": (1, 2, 3)},
    "ipv6": {"ipv4": False, "ipv6": True},
    "dual": {"ipv6": True},
    "one_armed": {"one_armed": True},
    "dnat": {"options": (("mode", '"dnat"'),)},
    "l2_bridge": {"plugin": "l2_bridge", "weights": (1, 2, 3)},
    "l2_bridge_ipv6": {"plugin": "l2_bridge", "ipv4": False, "ipv6": True},
    "l2_bridge_one_armed": {"plugin": "l2_bridge", "one_armed": True, "ipv6": True},
    "two_balancers": {"balancers": 2, "clients": 2},
}


def targets(state: LabState) -> tuple[Target, ...]:
    return tuple(Target(vip.address, vip.port) for vip in state.plan.vips)


@pytest.mark.parametrize("shape", SHAPES)
async def test_shares_follow_the_weights(shape: str) -> None:
    values: dict[str, Any] = SHAPES[shape]
    async with open_lab(new_spec(**values)) as state:
        job = Requests(targets=targets(state), count=REQUESTS)
        results = await collect(state.plan.host("client1"), [job])

    assert [result for result in results if result.error] == []
    assert len(results) == REQUESTS
    counts = Counter(result.node for result in results)
    nodes = state.plan.of(Role.NODE)
    total = sum(node.weight for node in nodes)
    for node in nodes:
        expected = REQUESTS * node.weight / total

        assert abs(counts[node.name] - expected) < TOLERANCE * expected, counts
