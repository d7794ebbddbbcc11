# SPDX-License-Identifier: Apache-2.0
"""Prints the table of docs/design/005-gossip.md."""

import statistics
import sys

from galelb_plugins.sync_gossip.messages import State
from simulation import Group

SIZES = (3, 10, 50)
LOSSES = (0.0, 0.05, 0.2)
DEATHS = 20
QUIET_S = 600


def deaths(size, loss):
    """Return how long the first to find a death took, and all others after it."""
    found, known = [], []
    for seed in range(DEATHS):
        group = Group(size, seed, loss=loss, wire=False).form()
        group.run(5 + 0.037 * seed)
        victim = group.names[seed % size]
        group.kill(victim)
        found.append(time_to_find(group, victim, group.now))
        known.append(time_to_agree(group, group.everybody(**{victim: State.DEAD})))
    return found, known


def time_to_find(group, victim, died):
    return group.run_until(lambda: group.seen(State.DEAD, victim, died), 300)


def time_to_agree(group, view):
    return group.run_until(lambda: group.agree(view), 300)


def quiet(size, loss):
    """Return false suspicions and deaths (members, not views) and datagrams per second."""
    group = Group(size, 1, loss=loss, wire=False).form()
    group.run(10)
    group.events.clear()
    group.datagrams.clear()
    group.run(QUIET_S)
    changes = [change for _, _, change in group.events]
    false = [
        len({(one.name, one.incarnation) for one in changes if one.state is state})
        for state in (State.SUSPECT, State.DEAD)
    ]
    return *false, group.datagrams.total() / size / QUIET_S


def main():
    out = sys.stdout.write
    out("| members | loss | found, median | 90 % | most | known to all after it, most ")
    out(
        "| false suspicions | false deaths | datagrams/s |\n|---|---|---|---|---|---|---|---|---|\n"
    )
    for size in SIZES:
        for loss in LOSSES:
            found, known = deaths(size, loss)
            suspicions, false, rate = quiet(size, loss)
            tenths = statistics.quantiles(found, n=10)
            out(f"| {size} | {loss:.0%} | {statistics.median(found):.2f} s | {tenths[-1]:.2f} s ")
            out(f"| {max(found):.2f} s | {max(known):.2f} s ")
            out(f"| {suspicions} | {false} | {rate:.1f} |\n")


if __name__ == "__main__":
    main()
