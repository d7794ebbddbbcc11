# SPDX-License-Identifier: Apache-2.0
"""A run of a balancer's daemon: the group's real parts, and a model of what surrounds them."""

import contextlib
import functools
import hashlib
import json
from ipaddress import ip_address
from types import SimpleNamespace

from galelb_plugins.sync_gossip.ledger import Ledger
from galelb_plugins.sync_gossip.messages import Forgotten, MemberChanged, RecordChanged

from galelb.config import BalancerConfig
from galelb.group.addresses import HEARTBEAT_S, Addresses
from galelb.group.desk import GroupDesk
from galelb.group.identity import Identity
from galelb.group.member import GroupMember
from galelb.health import HealthSettings, NodeHealth
from galelb.model import HealthReport, HealthStatus
from galelb.tables.maglev import build_table
from tests.group.simulated_copies import Copies
from tests.group.simulated_machine import Holder, Share
from tests.group.virtual_time import Bell, Clock

TIMEOUT_S = 3.0
REPORTS = 2
TABLE_SIZE = 251
_PLAN_S = 0.05
_PAUSE_S = 0.02
_TICK_S = 0.5


@functools.cache
def _config():
    data = {
        "private_interface": {"net_interface_private": "eth0"},
        "public_interface": {"net_interface_public": "eth1"},
        "node_health": {"checks_timeout": f"{TIMEOUT_S:g}s"},
    }
    return BalancerConfig.model_validate_json(json.dumps(data))


@functools.lru_cache(maxsize=1024)
def _digest(nodes):
    """Return what stands for the digest of the table of these nodes, (address, weight) pairs."""
    if not nodes:
        return ""
    table = build_table(nodes, TABLE_SIZE, 1)
    return hashlib.sha256(" ".join(nodes[place][0] for place in table).encode()).hexdigest()[:16]


class Balancer:
    """`machine` is what it runs on, `gossip` the member of the gossip simulation that it is."""

    def __init__(self, cluster, machine, gossip):
        self.cluster, self.machine, self.gossip = cluster, machine, gossip
        self.name = machine.name
        self.begun_at = cluster.now
        self.silent = False
        """Whether it has said goodbye."""
        self._timers = {}
        self._unwritten = {}
        """Records by key; written in their order, since that of sets differs between runs."""
        Clock.now = self.clock()
        self._ticked = Clock.now
        self.health = NodeHealth(
            HealthSettings(
                checks_before_routing=REPORTS,
                checks_timeout=TIMEOUT_S,
                black_list_after_fails=-1,
            )
        )
        self.health.restore(machine.health, Clock.now)
        self.health.take_changes()
        self.table = ()
        """(address, weight) of the nodes in its lookup tables."""
        self.routable = set()
        self.member = None
        self.member = self._make_member()
        self.copies = Copies(cluster, self.name, self._poke)
        self.ledger = Ledger(
            self.member.peer_changed, self.member.record_changed, gossip.swim.records_of
        )
        self.holder = Holder(cluster, machine)
        shares = {"l4_nat": Share(cluster, machine)}
        self.addresses = Addresses(
            config=_config(),
            state=self.member.state,
            holder=self.holder,
            copies=self.copies,
            announcer=SimpleNamespace(every_balancer=False, announce=lambda _: None),
            permanent=frozenset(),
            served=lambda: dict.fromkeys(cluster.vips, True),
            shares=lambda: shares,
            plan=lambda: None,
            lone=False,
        )
        self.addresses._moved = Bell()

    def _make_member(self):
        host, port = self.cluster.place(self.name)
        identity = Identity(
            name=self.name, address=host, port=port, peers=self.cluster.peers_of(self.name)
        )
        return GroupMember(
            _config(),
            identity,
            GroupDesk(SimpleNamespace(health=self.health, settle=self._settle)),
            version="1",
            decisions=self.machine.decisions,
            write=self._write,
            changed=self._changed,
            told=lambda old, new: None,
            merge=lambda ours, theirs: None,
        )

    @property
    def state(self):
        return self.member.state

    def clock(self):
        """Return the time by this machine's clock."""
        return self.gossip.clock(self.cluster.now)

    def start(self):
        """Begin to work; the gossip has started."""
        self.holder.start()
        self._plan()
        self._timer("conclude", 0.0, self._conclude)
        self._timer("beat", 0.0, self._beat)
        self._timer("tick", 0.0, self._tick)

    @contextlib.contextmanager
    def at_work(self):
        """Have the parts read this balancer's clock, then do what they have asked for."""
        before, Clock.now = Clock.now, self.clock()
        try:
            yield Clock.now
        finally:
            Clock.now = before
        for key in sorted(self._unwritten):
            self.gossip.swim.write(key, self._unwritten[key])
        self._unwritten.clear()
        if self.member._poked.answer():
            self._poke()
        if self.addresses._moved.answer():
            self._timer("beat", 0.0, self._beat)
        self.cluster.rearm(self.name)

    # what happens to it

    def hear(self, node):
        """Take a node's report."""
        with self.at_work() as now:
            report = HealthReport(
                source="test", address=ip_address(node), status=HealthStatus.SERVING, name=node
            )
            self.health.report(report, now)
            self.health.set_neighbour(report.address, "02:00:00:00:00:01", now)
            self._settle()

    def lose(self, node):
        """See the connection of a node end."""
        with self.at_work() as now:
            self.health.lost("test", ip_address(node), "closed", now)
            self._settle()

    def decide(self, node, *, draining):
        """Do what an operator wants."""
        with self.at_work() as now:
            self.health.drain(ip_address(node), draining, now)
            self._settle()
            self.member.decide(ip_address(node), draining=draining, weight=None)
            self.machine.decisions = self.state.decisions.dump()

    def note(self, output):
        """Take what the gossip tells the core."""
        if isinstance(output, MemberChanged | RecordChanged | Forgotten):
            with self.at_work():
                self.ledger.note(output)

    def hand_over(self):
        """Begin to stop."""
        with self.at_work():
            self.addresses.stop()

    # its tasks

    def _timer(self, which, seconds, act):
        """Have `act` done then, rather than at the time that was set before."""
        at = self.cluster.now + seconds
        self._timers[which] = at

        def due():
            if self._timers.get(which) == at:
                del self._timers[which]
                act()

        self.cluster.later(self.name, seconds, due)

    def _poke(self):
        last = getattr(self, "_concluded_at", float("-inf"))
        due = max(0.0, last + _PAUSE_S - self.cluster.now)
        planned = self._timers.get("conclude")
        if planned is None or planned > self.cluster.now + due:
            self._timer("conclude", due, self._conclude)

    def _conclude(self):
        self._concluded_at = self.cluster.now
        with self.at_work() as now:
            self.member._poked.answer()
            self.member._conclude(now)
            wake = self.state.next_wake(now)
        self.machine.decisions = self.state.decisions.dump()
        if "conclude" not in self._timers:
            self._timer("conclude", max(_PAUSE_S, wake - now), self._conclude)

    def _beat(self):
        with self.at_work():
            self.addresses.update()
            self.addresses._permit()
        self.addresses._moved.answer()
        self._timer("beat", HEARTBEAT_S, self._beat)

    def _tick(self):
        with self.at_work() as now:
            if now - self._ticked > TIMEOUT_S / 2:
                self.health.excuse(now)
            self._ticked = now
            self.health.tick(now)
            self._settle()
        self.machine.health = self.health.snapshot(self.clock())
        self._timer("tick", _TICK_S, self._tick)

    # what its parts ask for

    def _write(self, key, value):
        if not self.silent:
            self._unwritten[key] = value

    def _changed(self):
        self.copies.peers([one.peer.name for one in self.state.counted() if one.about is not None])
        self.addresses.update()

    def _settle(self):
        changes = self.health.take_changes()
        for old, new in changes if self.member else ():
            self.member.galelb_node_changed(old, new)
        if changes:
            self._timer("plan", _PLAN_S, self._plan)

    def _plan(self):
        nodes = tuple(
            sorted(
                (str(one.node.address), one.effective_weight)
                for one in self.health.records()
                if one.takes_new_flows
            )
        )
        before, self.table = self.routable, nodes
        self.routable = {str(one.node.address) for one in self.health.records() if one.routable}
        with self.at_work():
            self.member.tables(_digest(nodes))
        self.cluster.planned(self, before)
