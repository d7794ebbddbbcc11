# SPDX-License-Identifier: Apache-2.0
"""SchedulerContract: what every scheduler promises, as tests that a plugin's own class inherits."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

from galelb.sources import Scheduler

__all__ = ["SchedulerContract"]

SIZE = 65537
"""The default of forwarding.table_size."""

Nodes = Sequence[tuple[str, float]]


class SchedulerContract:
    """Inherit it in a class whose name starts with Test, and name the scheduler.

        class TestContract(SchedulerContract):
            scheduler = MyScheduler

    Override `make` for a scheduler whose options have no defaults. Each method is a test.
    """

    scheduler: ClassVar[type[Scheduler]]

    def make(self) -> Scheduler:
        """Return a new instance of the scheduler."""
        return self.scheduler(self.scheduler.Options())

    def test_it_gives_every_slot_to_a_node(self) -> None:
        """A table has the asked size and holds positions in `nodes` only, as whole numbers."""
        for nodes in (_equal(1), _equal(7), _weighted(100)):
            table = self.make().build(nodes, 1009, 0)

            assert len(table) == 1009
            wrong = [slot for slot in table if type(slot) is not int]
            assert wrong == [], f"slots must be whole numbers, got {wrong[0]!r}"
            assert set(table) <= set(range(len(nodes)))

    def test_it_gives_every_node_a_slot(self) -> None:
        """A node of little weight gets a slot, as does each of as many nodes as there are slots."""
        for nodes in ([("10.0.0.1", 1), ("10.0.0.2", 65535)], _weighted(100), _equal(101)):
            table = self.make().build(nodes, 101, 0)

            assert set(table) == set(range(len(nodes)))

    def test_it_gives_equal_tables_for_equal_sets(self) -> None:
        """Neither the order of nodes nor what was built before matters: balancers must agree."""
        nodes = _weighted(40)
        used = self.make()
        expected = _named(nodes, used.build(nodes, SIZE, 7))
        used.build(_equal(3), 1009, 1)

        for seed in range(3):
            shuffled = random.Random(seed).sample(nodes, len(nodes))  # noqa: S311 - no secret
            for scheduler in (used, self.make()):
                assert _named(shuffled, scheduler.build(shuffled, SIZE, 7)) == expected

    def test_it_leaves_its_arguments_alone(self) -> None:
        """Other threads may be reading the nodes."""
        nodes = _weighted(10)
        before = list(nodes)

        self.make().build(nodes, 1009, 0)

        assert nodes == before

    def test_another_seed_gives_another_table(self) -> None:
        """The seed is what an operator changes when flows meet badly."""
        nodes = _equal(10)

        assert self.make().build(nodes, 1009, 1) != self.make().build(nodes, 1009, 2)

    def test_shares_follow_the_weights_within_two_percent(self) -> None:
        """A node's share of the slots is its weight's share."""
        for nodes in (_equal(3), _equal(100), _weighted(10), _weighted(100)):
            counts = Counter(self.make().build(nodes, SIZE, 0))

            total = sum(weight for _, weight in nodes)
            for position, (address, weight) in enumerate(nodes):
                fair = SIZE * weight / total
                off = abs(counts[position] - fair) / fair
                assert off <= 0.02, f"{address} of weight {weight} is {off:.1%} off its share"

    def test_one_node_of_a_hundred_moves_two_percent_at_most(self) -> None:
        """Who leaves moves its own share, and one percent of the others' slots at most."""
        nodes = _equal(100)
        before = _named(nodes, self.make().build(nodes, SIZE, 0))

        for gone in (0, 49, 99):
            others = nodes[:gone] + nodes[gone + 1 :]
            after = _named(others, self.make().build(others, SIZE, 0))

            assert 1 / 100 - 0.001 <= _moved(before, after) <= 2 / 100

    def test_one_weight_of_a_hundred_moves_its_difference(self) -> None:
        """A new weight moves what the node's share grows by, and one percent at most."""
        nodes = _equal(100)
        heavier = [*nodes[:49], (nodes[49][0], 2), *nodes[50:]]
        before = _named(nodes, self.make().build(nodes, SIZE, 0))
        after = _named(heavier, self.make().build(heavier, SIZE, 0))

        assert _moved(before, after) <= 2 / 101 - 1 / 100 + 1 / 100

    def test_weights_need_not_be_whole(self) -> None:
        """While it starts slowly a node has a part of its weight; each step moves little more."""
        others = _equal(10)[1:]
        before = _named(others, self.make().build(others, SIZE, 0))
        share = 0.0
        for weight in (0.05, 0.2, 0.4, 0.6, 0.8, 1):
            nodes = [("10.0.0.1", weight), *others]
            after = _named(nodes, self.make().build(nodes, SIZE, 0))
            due = weight / (9 + weight)

            assert abs(after.count("10.0.0.1") / SIZE - due) <= due * 0.02
            assert _moved(before, after) <= due - share + 1 / 100
            before, share = after, due


def _equal(count: int) -> list[tuple[str, float]]:
    return [(f"10.0.{n // 200}.{n % 200 + 1}", 1) for n in range(count)]


def _weighted(count: int) -> list[tuple[str, float]]:
    return [(f"fd00::{n + 1:x}", 1 + n % 10) for n in range(count)]


def _named(nodes: Nodes, table: Sequence[int]) -> list[str]:
    return [nodes[position][0] for position in table]


def _moved(before: Sequence[str], after: Sequence[str]) -> float:
    return sum(a != b for a, b in zip(before, after, strict=True)) / len(before)
