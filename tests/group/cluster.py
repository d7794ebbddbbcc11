# SPDX-License-Identifier: Apache-2.0
"""Whole groups in virtual time: gossip, agreement and addresses, while everything goes wrong.

On top of the simulation of gossip alone (tests/plugins/sync_gossip/simulation.py) a member is a
balancer: it hears nodes, copies flows, holds addresses with a lifetime, and may make flows while
its lease lasts. A killed daemon leaves its kernel behind, which forwards and keeps addresses for
3 s. Everything follows from the seed.
"""

import hashlib
from ipaddress import ip_address

from galelb_plugins.sync_gossip.messages import MemberChanged, RecordChanged, State

from galelb.flowshare import SourceAddress
from galelb.group.addresses import HEARTBEAT_S, LEASE_S
from galelb.group.joining import Joining
from galelb.group.quorum import Standing
from galelb.group.state import GroupState
from galelb.group.words import About, NodeWord, SourceWord
from galelb.model import Peer
from tests.plugins.sync_gossip.simulation import Group

__all__ = ["LIFETIME_S", "NODES", "VIPS", "Cluster"]

VIPS = [ip_address(f"192.0.2.{number}") for number in range(1, 9)]
NODES = [f"10.1.0.{number}" for number in range(1, 7)]
TIMEOUT_S = 1.0
LIFETIME_S = 3.0
GIVE_UP_S = 10.0
STEP_S = 0.1


class Balancer:
    """One run of a daemon; its `Kernel` survives it."""

    def __init__(self, cluster, name, now):
        self.cluster, self.name = cluster, name
        number = cluster.names.index(name)
        address = ip_address("10.2.0.1") + number
        self.source = SourceAddress(address=address, first_port=1024, last_port=65535)
        self.state = GroupState(
            name,
            len(cluster.names),
            timeout_s=TIMEOUT_S,
            about=About(version="1", config="c", tables="", ready=False, sharing_port=1),
            settings={},
            enforce=False,
            write=cluster.members[name].swim.write,
        )
        self.joining = Joining(now)
        self.met = {}
        for node in NODES:
            self.hear_node(node, now)

    def hear_node(self, node, now):
        word = NodeWord(routable=(self.name, node) not in self.cluster.deaf, name="", weight=1)
        self.state.node_said(node, word, now)

    def conclude(self, now):
        """Do as GroupMember and Addresses do; return what to hold."""
        state = self.state
        live = {one.peer.name for one in state.counted()}
        self.met = {name: self.met.get(name, now) for name in live}
        copied = {name for name, at in self.met.items() if self._copied(name, at, now)}
        waited = {name for name, at in self.met.items() if now >= at + GIVE_UP_S}
        ready = self.joining.ready(
            state.standing,
            now,
            complete=live <= copied | waited,
            everyone=len(live) + 1 >= state.size,
        )
        state.say(now, ready=ready, tables=self._tables(now))
        state.use_sources([SourceWord(source=self.source, movable=True)])
        state.use_copies(copied, now)
        return state.holdings(VIPS, now)

    def _copied(self, name, at, now):
        return now >= at + self.cluster.transfer_s and self.cluster.is_open(self.name, name)

    def _tables(self, now):
        verdicts = self.state.verdicts(now)
        if self.state.standing is Standing.FORMING:
            verdicts = {node: (self.name, node) not in self.cluster.deaf for node in NODES}
        up = sorted(node for node, routable in verdicts.items() if routable)
        return hashlib.sha256(" ".join(up).encode()).hexdigest()[:16]


class Kernel:
    """What a machine goes on with when its daemon is dead: addresses and the lease, by time."""

    def __init__(self):
        self.until = {}
        self.lease = float("-inf")

    def holds(self, now):
        return {address for address, until in self.until.items() if until > now}


class Cluster(Group):
    """`size` balancers; `check` is called every `STEP_S` with the cluster."""

    transfer_s = 0.4
    """Until all flows of a peer are copied."""

    def __init__(self, size, seed, *, check=lambda cluster: None, **options):
        self.balancers, self.kernels, self.deaf = {}, {}, set()
        self._due, self._poked, self._check = {}, set(), check
        super().__init__(size, seed, wire=False, **options)

    # What happens to machines.

    def _start(self, name):
        self.kernels.setdefault(name, Kernel())
        self.balancers[name] = Balancer(self, name, self.clock(name))
        self._due[name] = self.now
        super()._start(name)

    def crash(self, name):
        """The whole machine is gone."""
        self.kill(name)
        self.kernels[name] = Kernel()

    def partition(self, few):
        self.cut(few, [name for name in self.names if name not in few])

    def node_falls(self, node, *, at=None):
        """A node is gone for some balancers, or for all."""
        for name in at or self.names:
            self.deaf.add((name, node))
            if self.members[name].running:
                self.balancers[name].hear_node(node, self.clock(name))
                self._after(name)

    def clock(self, name):
        return self.members[name].clock(self.now)

    def is_open(self, one, other):
        return self.members[other].running and not {(one, other), (other, one)} & self._cut

    # Time.

    def run(self, seconds):
        """Run; balancers draw conclusions each second, and when they heard something."""
        end = self.now + seconds
        while self.now < end:
            super().run(min(STEP_S, end - self.now))
            for name in self.running():
                if self.members[name].frozen_until <= self.now and self._is_due(name):
                    self._conclude(name)
            self._check(self)

    def run_until(self, true, within):
        start = self.now
        while not true():
            if self.now >= start + within:
                return None
            self.run(STEP_S)
        return self.now - start

    def _is_due(self, name):
        return name in self._poked or self.now >= self._due[name]

    def _conclude(self, name):
        self._poked.discard(name)
        clock, balancer = self.clock(name), self.balancers[name]
        kernel, holdings = self.kernels[name], balancer.conclude(clock)
        wake = balancer.state.next_wake(clock) - clock
        self._due[name] = self.now + min(HEARTBEAT_S, wake)
        held = holdings.vips | holdings.own | holdings.inherited
        kernel.until = dict.fromkeys(held, self.now + LIFETIME_S)
        kernel.lease = self.now + LEASE_S if holdings.own else float("-inf")
        self._after(name)

    def _after(self, name):
        """Pass on what the protocol says, before it is done."""
        taken = self.members[name].swim.take()
        self.members[name].swim._outputs.extend(taken)
        for output in taken:
            self._tell(name, output)
        super()._after(name)

    def _tell(self, name, output):
        state, clock = self.balancers[name].state, self.clock(name)
        if isinstance(output, MemberChanged):
            host, port = output.address
            peer = Peer(
                address=host,
                port=port,
                alive=output.state in (State.ALIVE, State.SUSPECT),
                name=output.name,
                left=output.state is State.LEFT,
            )
            state.peer_changed(peer, clock)
        elif isinstance(output, RecordChanged):
            record = output.record
            state.record_changed(record.origin, record.key, record.value, clock)
        else:
            return
        self._poked.add(name)

    # What there is to see.

    def holders(self, address):
        return [name for name, kernel in self.kernels.items() if address in kernel.holds(self.now)]

    def live_holders(self, address):
        return [name for name in self.holders(address) if self.members[name].running]

    def allocators(self, address):
        """Who may give out ports of an address now; its daemon may be dead already."""
        return [
            name
            for name, balancer in self.balancers.items()
            if balancer.source.address == address and self.kernels[name].lease > self.now
        ]

    def digests(self):
        return {self.balancers[name].state.about.tables for name in self.running()}

    def settled(self):
        """Whether each VIP has one live holder, and all tables are the same."""
        return all(len(self.live_holders(vip)) == 1 for vip in VIPS) and len(self.digests()) == 1

    def ready(self):
        """Run until the group works."""
        took = self.run_until(self.settled, 60)
        assert took is not None, f"{self} did not settle: {self.picture()}"
        return self

    def picture(self):
        return {
            name: (
                balancer.state.standing.value,
                balancer.state.about.ready,
                sorted(map(str, self.kernels[name].holds(self.now))),
            )
            for name, balancer in self.balancers.items()
        }
