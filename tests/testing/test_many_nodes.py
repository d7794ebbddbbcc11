# SPDX-License-Identifier: Apache-2.0
"""A hundred nodes in one table, through the program: what moves, and what weights do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from galelb_plugins.l2_bridge.plugin import L2Bridge

from galelb.abi import NodeFlag, Reason
from galelb.forwarder import Options
from galelb.testing.contract.nodes import flow_frames
from galelb.testing.kernel import Sandbox
from galelb.testing.runner import PacketRunner
from galelb.testing.services import make_services
from galelb.testing.world import PUBLIC, TestNode, build_world

pytestmark = pytest.mark.bpf

NODES = 100
TABLE = 65_537
FLOWS = 10_000
MOST_MOVED = 1 / NODES + 0.01
WEIGHTS = [1 + n % 10 for n in range(NODES)]
GROUPS = {weight: WEIGHTS.count(weight) * weight / sum(WEIGHTS) for weight in set(WEIGHTS)}
KINDS = ["tcp4", "udp6"]


@pytest.fixture(scope="module")
def runner() -> Iterator[PacketRunner]:
    services = make_services("l2_bridge")
    with Sandbox() as sandbox:
        world, wanted = build_world(sandbox, nodes=NODES), [services[kind] for kind in KINDS]
        bridge = L2Bridge(Options())
        with PacketRunner(sandbox, world, wanted, bridge, table_size=TABLE) as one:
            yield one


def nodes_of(runner: PacketRunner, kind: str) -> tuple[int, list[TestNode]]:
    number = 1 + KINDS.index(kind)
    return number, runner.eligible(number)


def reached(runner: PacketRunner, frames: list[bytes]) -> list[int]:
    outcomes = runner.run_all((data, PUBLIC) for data in frames)
    assert {Reason.FORWARDED} == {outcome.reason for outcome in outcomes}
    return [outcome.node for outcome in outcomes]


@pytest.mark.parametrize("kind", KINDS)
def test_one_of_a_hundred_nodes_moves_its_share_and_no_more_than_one_percent(runner, kind) -> None:
    number, nodes = nodes_of(runner, kind)
    frames = flow_frames(runner, kind, FLOWS)
    gone, rest = nodes[41], [*nodes[:41], *nodes[42:]]
    runner.set_table(number, nodes)
    whole = reached(runner, frames)

    runner.set_node(gone, NodeFlag(0))
    runner.set_table(number, rest)
    without = reached(runner, frames)
    runner.restore()
    runner.set_table(number, nodes)
    again = reached(runner, frames)

    moved = sum(a != b for a, b in zip(whole, without, strict=True)) / FLOWS
    assert set(whole) == {node.index for node in nodes}
    assert gone.index not in without
    assert moved <= MOST_MOVED
    assert whole == again


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_honoured_within_two_percent(runner, kind) -> None:
    """Of the flows: nodes of one weight together, since 10,000 flows tell little of one node."""
    number, nodes = nodes_of(runner, kind)
    runner.set_table(number, nodes, WEIGHTS)

    got = Counter(reached(runner, flow_frames(runner, kind, FLOWS)))

    weight_of = {node.index: weight for node, weight in zip(nodes, WEIGHTS, strict=True)}
    by_weight: Counter[int] = Counter()
    for index, count in got.items():
        by_weight[weight_of[index]] += count
    shares = {weight: by_weight[weight] / FLOWS for weight in GROUPS}
    assert shares == pytest.approx(GROUPS, abs=0.02)
