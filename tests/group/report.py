# SPDX-License-Identifier: Apache-2.0
"""Prints what whole groups do in virtual time, as the table in docs/design/006-group.md.

Run it from the root: `.venv/bin/python -m tests.group.report`.
"""

import statistics
import sys

from tests.group.cluster import NODES, VIPS, Cluster

SEEDS = range(10)
STEP = "s"


class DoubleOwners:
    """Adds up for how long a VIP had two owners."""

    def __init__(self):
        self.seconds, self._last = 0.0, 0.0

    def __call__(self, cluster):
        elapsed, self._last = cluster.now - self._last, cluster.now
        if any(len(cluster.live_holders(vip)) > 1 for vip in VIPS):
            self.seconds += elapsed


def started(size, seed, loss):
    watch = DoubleOwners()
    group = Cluster(size, seed, loss=loss, check=watch).ready()
    watch.seconds = 0.0
    return group, watch


def busiest(group):
    """Return who has most VIPs."""
    return max(group.names, key=lambda name: sum(name in group.holders(v) for v in VIPS))


def loss_of_one(size, seed, loss):
    """Return how long its addresses are away when a machine dies, and how long twice there."""
    group, watch = started(size, seed, loss)
    group.crash(busiest(group))
    took = group.run_until(group.settled, 120)
    return took, watch.seconds


def return_of_one(size, seed, loss):
    """Return until when all is as before, and how long addresses are twice there."""
    group, watch = started(size, seed, loss)
    before = {vip: group.live_holders(vip) for vip in VIPS}
    victim = busiest(group)
    group.crash(victim)
    group.run(15)
    watch.seconds = 0.0
    group.boot(victim)
    took = group.run_until(lambda: {vip: group.live_holders(vip) for vip in VIPS} == before, 60)
    return took, watch.seconds


def healing(size, seed, loss):
    """Return how long after a cut of a minority has healed all tables are the same."""
    group, _ = started(size, seed, loss)
    few = group.names[: (size - 1) // 2]
    group.partition(few)
    group.run(20)
    group.node_falls(NODES[0], at=group.names[len(few) :])
    group.run(5)
    group.heal()
    group.node_falls(NODES[0], at=few)
    return group.run_until(lambda: len(group.digests()) == 1, 60)


def row(size, loss):
    seeds = SEEDS if size < 50 else SEEDS[:3]
    lost = [loss_of_one(size, seed, loss) for seed in seeds]
    back = [return_of_one(size, seed, loss) for seed in seeds]
    healed = [healing(size, seed, loss) for seed in seeds] if size > 2 else []
    times = sorted(took for took, _ in lost)
    return (
        f"| {size} | {loss:.0%} | {statistics.median(times):.1f} {STEP} | {times[-1]:.1f} {STEP} |"
        f" {max(took for took, _ in back):.1f} {STEP} |"
        f" {max(double for _, double in (*lost, *back)):.1f} {STEP} |"
        f" {f'{max(healed):.1f} {STEP}' if healed else '-'} |\n"
    )


if __name__ == "__main__":
    sys.stdout.write(
        "| balancers | loss | taken over, median | most | back home, most |"
        " twice there, most | tables equal after healing, most |\n|---|---|---|---|---|---|---|\n"
    )
    for balancers in (2, 3, 10, 50):
        for lost_share in (0.0, 0.05):
            sys.stdout.write(row(balancers, lost_share))
            sys.stdout.flush()
