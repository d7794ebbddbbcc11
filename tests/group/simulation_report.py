# SPDX-License-Identifier: Apache-2.0
"""Prints how groups do in `simulation`: `python -m tests.group.simulation_report`, some minutes."""

import statistics
import sys

from tests.group.simulation import Cluster
from tests.group.virtual_time import virtual_time

SIZES = (2, 3, 5, 10)
LOSSES = (0.0, 0.05, 0.2)
DEATHS = 20
CUT_S = 30
QUIET_S = 120


def owned(cluster, names):
    """Whether each VIP has an owner among these."""
    holders = cluster.holders()
    return all(set(names) & set(holders[vip]) for vip in cluster.vips)


def takeover(size, loss, seed):
    """Return how long VIPs of a machine that vanishes are without an owner."""
    cluster = Cluster(size, seed, loss=loss).form()
    cluster.run(3 + 0.037 * seed)
    cluster.power_off(cluster.holders()[cluster.vips[0]][0])
    took = cluster.run_until(lambda: owned(cluster, cluster.running()), 120)
    assert took is not None, cluster
    return took


def partition(size, loss, seed):
    """Return when the few have given up, the tables are equal again, and the double VIP time.

    A pair is cut into two, else the largest minority off.
    """
    cluster = Cluster(size, seed, loss=loss, drift=1e-3).form()
    few = cluster.names[: max(1, (size - 1) // 2)]
    cluster.part(few, cluster.names[len(few) :])
    gave_up = cluster.run_until(lambda: not any(map(held(cluster), few)), CUT_S)
    cluster.run(CUT_S - (CUT_S if gave_up is None else gave_up))
    apart_s = cluster.watch.divided_s
    cluster.watch.begin()
    cluster.heal()
    healed = cluster.now
    whole = cluster.run_until(lambda: cluster.tables_equal() and counted(cluster), 60)
    cluster.run(max(0.0, healed + 60 - cluster.now))
    return gave_up, whole, apart_s / len(cluster.vips), cluster.watch.doubled_s / len(cluster.vips)


def held(cluster):
    """Return what tells whether a balancer holds anything."""
    return lambda name: cluster.machines[name].holds(cluster.now)


def counted(cluster):
    """Whether all know that all live."""
    return all(len(one.state.counted()) == len(cluster.names) - 1 for one in cluster.live())


def moved(size, loss):
    """Return how many VIPs moved in quiet minutes."""
    cluster = Cluster(size, 1, loss=loss, drift=1e-3).form()
    cluster.run(QUIET_S)
    return cluster.watch.moves.total()


def line(size, loss):
    """Return a line of the table."""
    times = sorted(takeover(size, loss, seed) for seed in range(DEATHS))
    cuts = [partition(size, loss, seed) for seed in range(DEATHS // 4)]
    gave_up = [one[0] for one in cuts]
    most = "never" if size == 2 else "> 30 s" if None in gave_up else f"{max(gave_up):.1f} s"
    return (
        f"| {size} | {loss:.0%} | {statistics.median(times):.2f} s"
        f" | {statistics.quantiles(times, n=10)[-1]:.2f} s | {times[-1]:.2f} s"
        f" | {moved(size, loss)} | {most} | {max(one[2] for one in cuts):.1f} s"
        f" | {max(one[1] for one in cuts):.1f} s"
        f" | {1000 * max(one[3] for one in cuts):.0f} ms | 0 |\n"
    )


def main():
    """Print the table; a second balancer that allocates would end it (`Watch`)."""
    out = sys.stdout.write
    out("| balancers | loss | takeover, median | 90 % | most | VIPs moved without need")
    out(" | a minority gives up, most | two owners while cut | tables equal after healing, most")
    out(" | two owners after healing, most | double allocators |\n" + "|---" * 11 + "|\n")
    with virtual_time():
        for size in SIZES:
            for loss in LOSSES:
                out(line(size, loss))
                sys.stdout.flush()


if __name__ == "__main__":
    main()
