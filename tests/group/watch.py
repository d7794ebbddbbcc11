# SPDX-License-Identifier: Apache-2.0
"""What must hold in a simulated group at every moment, and how long it did not where it may not."""

from collections import Counter

from galelb.group.holder import LIFETIME_S
from galelb.group.quorum import Standing

_SPREAD_S = 1.5
"""Younger flows need not be known to others yet."""
_GIVE_UP_S = 0.3
"""From knowing that it is cut off to having no addresses."""


class Violated(AssertionError):
    """An invariant does not hold."""


class Watch:
    """Looks at a `Cluster`: at each permission, each new address, each plan, and `every_s`."""

    every_s = 0.05

    def __init__(self, cluster):
        self._cluster = cluster
        self._lost_at = {}
        """When those who are in no quorum were seen so first."""
        self.begin()

    def begin(self):
        """Forget what was counted so far."""
        self.doubled_s = self.divided_s = 0.0
        """VIP seconds with several live owners: in reach of each other, and apart."""
        self.moves = Counter()
        """By VIP: how often it came to a live balancer."""

    # at each change

    def permitted(self, machine, *, new):
        """Nobody else makes flows on the address; who begins knows all that exist on it."""
        now, cluster = self._cluster.now, self._cluster
        for other in cluster.machines.values():
            if other is not machine and other.source == machine.source and other.allocates(now):
                self._violated(f"{machine.name} and {other.name} make flows on {machine.source}")
        if new and (missing := self._missing(machine, machine.source)):
            self._violated(f"{machine.name} makes flows on {machine.source} without {missing}")

    def holding(self, machine, new):
        """Who gets its own address back, and the VIPs with it, has the flows of those it sees.

        An heir may have to do without: flows on an address rather lose packets than their way.
        """
        for address in new:
            if address in self._cluster.vips:
                self.moves[address] += 1
        if machine.source in new and (missing := self._missing(machine)):
            self._violated(f"{machine.name} takes {sorted(map(str, new))} without {missing}")

    def planned(self, balancer, before):
        """Who is cut off adds no node, and keeps one; operators may still drain nodes."""
        if balancer.state.standing is not Standing.CUT_OFF:
            return
        if added := balancer.routable - before:
            self._violated(f"{balancer.name} is cut off and adds {sorted(added)}")
        if before and not balancer.routable:
            self._violated(f"{balancer.name} is cut off and has no node any more")

    def look(self):
        """Look at what time alone changes."""
        cluster, now = self._cluster, self._cluster.now
        live = {one.name: one.machine.holds(now) for one in cluster.live()}
        for vip in cluster.vips:
            # What a killed daemon left behind goes by itself, and is announced by nobody.
            owners = [
                n for n, held in live.items() if vip in held & cluster.balancers[n].holder.put
            ]
            if len(owners) > 1:
                one_side = any(set(owners) <= side for side in cluster.sides())
                self.doubled_s += self.every_s * one_side
                self.divided_s += self.every_s * (not one_side)
        for name, held in live.items():
            self._look_at_standing(name, held)

    def _look_at_standing(self, name, held):
        """Who knows that it is cut off holds nothing and makes no flows."""
        cluster = self._cluster
        standing = cluster.balancers[name].state.standing
        if standing is Standing.QUORATE:
            self._lost_at.pop(name, None)
            return
        since = self._lost_at.setdefault(name, cluster.now)
        begun = cluster.balancers[name].begun_at
        if cluster.now < max(since + _GIVE_UP_S, begun + LIFETIME_S):
            return  # a daemon that was killed just now has left its addresses there
        if held & {one.source for one in cluster.machines.values()} | held & set(cluster.vips):
            self._violated(f"{name} is {standing.value} and holds {sorted(map(str, held))}")
        if cluster.machines[name].allocates(cluster.now):
            self._violated(f"{name} is {standing.value} and makes flows")

    # inside

    def _missing(self, machine, source=None):
        """Return flows, on a translation address or all, that a peer has had for a while.

        Those of a balancer that lives and has not been met are not missed: it has them.
        """
        cluster, known = self._cluster, self._cluster.balancers[machine.name].state.counted()
        met = {one.peer.name for one in known}
        unmet = {cluster.machines[one.name].source for one in cluster.live() if one.name not in met}
        missing = set()
        for name in met:
            if cluster.serving(machine.name, name) is None:
                continue
            for flows, since in cluster.machines[name].flows.items():
                old = since < cluster.now - _SPREAD_S
                wanted = source == flows[0] or (source is None and flows[0] not in unmet)
                if old and wanted and flows not in machine.flows:
                    missing.add(f"{flows[0]}/{flows[1]} of {name}")
        return sorted(missing)

    def _violated(self, text):
        raise Violated(f"{self._cluster} at {self._cluster.now:.3f} s: {text}")
