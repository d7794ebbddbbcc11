# SPDX-License-Identifier: Apache-2.0
"""A whole group of balancers in virtual time: the gossip's simulation, and what is built on it.

Each balancer is the real gossip, membership and address logic over a model of its kernel, its nodes
and its copies of flows. Everything follows from the seed. Use it within `virtual_time()`.
"""

from ipaddress import IPv4Address

from tests.group.simulated_balancer import TIMEOUT_S, Balancer
from tests.group.simulated_machine import Machine
from tests.group.watch import Watch
from tests.plugins.sync_gossip import simulation as gossip

_CALL = 2
_REPORT_S = TIMEOUT_S / 2.5
_TOLD_S = 0.4


class Cluster(gossip.Group):
    """`size` balancers m00, m01 ... and nodes by address, which report to each of them.

    `transfer`: least and most seconds until all flows of a peer have come. `start`: names of
    those that run from the beginning. `sources`: translation addresses that differ from the
    usual by name. More options: `gossip.Group`.
    """

    seeds = None  # everybody's configuration lists all

    def __init__(
        self,
        size,
        seed,
        *,
        vips=5,
        nodes=4,
        transfer=(0.05, 0.5),
        start=None,
        sources=(),
        **network,
    ):
        names = [f"m{number:02}" for number in range(size)]
        self.transfer = transfer
        self.vips = [IPv4Address("192.0.2.1") + number for number in range(vips)]
        own = {name: IPv4Address("10.0.1.1") + number for number, name in enumerate(names)}
        self.machines = {name: Machine(name, (own | dict(sources))[name]) for name in names}
        self.balancers = {}
        self.nodes = {f"10.0.2.{number}": True for number in range(1, nodes + 1)}
        self.watch = Watch(self)
        self._starting = set(names if start is None else start)
        super().__init__(size, seed, wire=False, **network)
        for name in names:
            if name not in self._starting:
                self.machines[name].on = False
                self.members[name].running = False
        for number, node in enumerate(self.nodes):
            for other, name in enumerate(names):
                phase = (number * 0.37 + other * 0.61 + seed * 0.13) % 1
                self._report(node, name, first=phase * _REPORT_S)
        self._look()

    def __repr__(self):
        return str(self)

    def form(self):
        """Run until all are quorate, agree about everything, and have copies."""
        assert self.run_until(self.settled, 60) is not None, f"{self} did not form"
        self.run(5)  # penalties and pauses of the beginning are over
        self.watch.begin()
        return self

    # what happens to balancers

    def kill(self, name):
        """Kill the daemon; the machine's kernel goes on."""
        super().kill(name)
        self._links_changed()

    def power_off(self, name):
        """Let the whole machine vanish."""
        self.machines[name].power_off()
        self.kill(name)

    def boot(self, name):
        """Start the daemon, and the machine if that is off."""
        self.machines[name].on = True
        self._starting.add(name)
        super().boot(name)
        self._links_changed()

    def leave(self, name):
        """Stop the daemon as SIGTERM does."""
        balancer = self.balancers[name]
        balancer.hand_over()

        def goodbye():
            balancer.silent = True
            super(Cluster, self).leave(name)

        def end():
            balancer.holder.let_go()
            self.kill(name)

        self.later(name, 0.5, goodbye)
        self.later(None, 3.0, end)

    def freeze(self, name, seconds):
        super().freeze(name, seconds)
        self._links_changed()
        self.later(None, seconds, self._links_changed)

    def cut(self, sources, targets, *, one_way=False):
        super().cut(sources, targets, one_way=one_way)
        self._links_changed()

    def part(self, *sides, nodes=None):
        """Cut balancers into sides; `nodes`: those that each side still hears, all if None."""
        for number, side in enumerate(sides):
            for other in sides[number + 1 :]:
                super().cut(side, other)
            if nodes is not None:
                super().cut(self.nodes.keys() - set(nodes[number]), side)
        self._links_changed()

    def heal(self):
        super().heal()
        self._links_changed()

    # what happens to nodes

    def end_node(self, node):
        """End a node whose machine lives: its connections are closed."""
        self.nodes[node] = False
        for name, balancer in self.balancers.items():
            if self._linked(node, name) and self._works(name):
                balancer.lose(node)

    def _report(self, node, name, first=None):
        def act():
            if self.nodes[node] and self._linked(node, name) and self._works(name):
                self.balancers[name].hear(node)
            self._report(node, name)

        self.later(None, _REPORT_S if first is None else first, act)

    # what parts of balancers ask for

    def place(self, name):
        """Return the address and port of a balancer."""
        return self._addresses[name]

    def peers_of(self, name):
        """Return the places of the others."""
        return tuple(at for one, at in self._addresses.items() if one != name)

    def later(self, name, seconds, act):
        """Have something done then; by a balancer, unless that has ended, or was frozen."""
        member = None if name is None else self.members[name]
        self._at(self.now + seconds, _CALL, name, (member, act))

    def rearm(self, name):
        """See when the gossip wants to be woken."""
        self._after(name)

    def serving(self, name, peer):
        """Return the run of a peer's daemon that a stream gets answers from; None = no answers."""
        return self.members[peer] if self._works(peer) and self._linked(name, peer) else None

    def says_goodbye(self, name, peer, run):
        """Whether the end of a daemon is seen at once: its kernel lives, and can be reached."""
        ended = not run.running or self.members[peer] is not run
        return ended and self.machines[peer].on and self._linked(name, peer)

    def copied(self, peer, name):
        """Note that all flows of a peer have come."""
        known = self.machines[name].flows
        for flows in self.machines[peer].flows:
            known.setdefault(flows, self.now)

    def permitted(self, machine, *, new):
        """Note that a balancer may make flows, `new` or still; who follows it hears of them."""
        self.watch.permitted(machine, new=new)
        flows = (machine.source, machine.boot)
        if flows in machine.flows:
            return
        machine.flows[flows] = self.now

        def tell():
            for name, one in self.balancers.items():
                if one.copies.follows(machine.name):
                    self.machines[name].flows.setdefault(flows, self.now)

        self.later(None, _TOLD_S, tell)

    def holding(self, machine, new):
        """Note which addresses a balancer has put on its interfaces."""
        self.watch.holding(machine, new)

    def planned(self, balancer, before):
        """Note that a balancer has other tables."""
        self.watch.planned(balancer, before)

    # what there is to see

    def live(self):
        """Return the balancers whose daemons run and are not frozen."""
        return [self.balancers[name] for name in self.names if self._works(name)]

    def settled(self):
        """Whether all who run agree: tables, decisions, one owner for each address."""
        live = self.live()
        return (
            self.tables_equal()
            and all(len(one.state.counted()) == len(live) - 1 for one in live)
            and all(one.state.about.ready and one.copies.complete for one in live)
            and all(len(who) == 1 for who in self.holders().values())
        )

    def tables_equal(self):
        """Whether all who run have the same tables, and these are not empty without need."""
        tables = {one.table for one in self.live()}
        return len(tables) == 1 and (tables != {()} or not any(self.nodes.values()))

    def holders(self):
        """Return who runs and has each VIP and each translation address."""
        found = {address: [] for address in self.vips}
        found |= {one.machine.source: [] for one in self.live()}
        for one in self.live():
            for address in self.machines[one.name].holds(self.now):
                found.setdefault(address, []).append(one.name)
        return found

    def sides(self):
        """Return the sets of running balancers that can reach each other, if by others."""
        left, sides = {one.name for one in self.live()}, []
        while left:
            side, new = set(), {left.pop()}
            while new:
                side |= new
                new = {b for b in left if any(self._linked(a, b) for a in new)}
                left -= new
            sides.append(side)
        return sides

    # inside

    def _works(self, name):
        member = self.members[name]
        return name in self.balancers and member.running and member.frozen_until <= self.now

    def _linked(self, one, other):
        return not {(one, other), (other, one)} & self._cut

    def _links_changed(self):
        for one in self.live():
            one.copies.look()

    def _start(self, name):
        if name not in self._starting:
            return
        self.balancers[name] = Balancer(self, self.machines[name], self.members[name])
        super()._start(name)
        self.balancers[name].start()

    def note(self, name, output):
        self.balancers[name].note(output)

    def _look(self):
        self.watch.look()
        self.later(None, self.watch.every_s, self._look)

    def _step(self):
        if self._heap[0][1] != _CALL:
            super()._step()
            return
        at, _, _, name, (member, act) = gossip.heapq.heappop(self._heap)
        self.now = max(self.now, at)
        if member is None:
            act()
        elif member.running and self.members[name] is member:
            if member.frozen_until > self.now:
                self._at(member.frozen_until, _CALL, name, (member, act))
            else:
                act()
