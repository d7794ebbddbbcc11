# SPDX-License-Identifier: Apache-2.0
"""The registry of nodes: who is routable, and why; sans-IO, the caller brings the time.

`now` is always seconds of one monotonic clock; a value smaller than an earlier one counts as
the earlier one. Call `tick` when `next_deadline` has come, then `take_changes` after any call.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import attrs

from galelb.errors import GaleError
from galelb.health.agreed import UNHEARD, new_words
from galelb.health.deadlines import Deadlines
from galelb.health.machine import HealthSettings, NodeMachine
from galelb.health.room import longest_down
from galelb.health.snapshot import adopt_all, describe
from galelb.health.voices import renewed, weight_from
from galelb.health.warmth import Warmth
from galelb.health.weights import MAX_WEIGHT, MeanLoad
from galelb.model import HealthReport, HealthWord, IPAddress, Node, NodeRecord, NodeState

__all__ = ["MAX_WEIGHT", "HealthSettings", "NoSuchNodeError", "NodeHealth", "TooManyNodesError"]


class TooManyNodesError(GaleError):
    """The registry is full and no node in it may be forgotten."""


class NoSuchNodeError(GaleError):
    """The operator named a node that the balancer does not know."""


class NodeHealth:
    """All nodes of one balancer.

    `checkers` are the names of the sources that look at nodes themselves; their reports are
    checks (see `galelb.health.machine`), and a new node waits for the word of each.
    """

    def __init__(
        self,
        settings: HealthSettings,
        *,
        max_nodes: int = 1024,
        checkers: Collection[str] = (),
    ) -> None:
        self._settings = settings
        self._max_nodes = max_nodes
        self._checkers = tuple(checkers)
        self._machines: dict[IPAddress, NodeMachine] = {}
        self._records: dict[IPAddress, NodeRecord] = {}
        self._deadlines = Deadlines()
        self._mean_load = MeanLoad(self._loads)
        self._warmth = Warmth(self._machines)
        self._stale: set[IPAddress] = set()
        """Nodes that may have changed since their record and deadline were looked at."""
        self._now = float("-inf")
        self._before: dict[IPAddress, NodeRecord | None] = {}
        """Records as last taken, of the nodes that changed since."""
        self._removed: dict[IPAddress, NodeRecord] = {}

    # what sources and configuration say

    def add_static(self, node: Node, now: float) -> NodeRecord:
        """Add a configured node; routable at once, or once the checks passed; never times out.

        It still obeys a health source that says "not serving" or "shutting down". A node known
        under this address (adopted, or joined by itself) keeps what the operator set.

        Raises:
            TooManyNodesError: the registry is full.
        """
        node = attrs.evolve(node, static=True)
        machine = self._touch(node.address, now) or self._add(node, now)
        machine.make_static(node, self._now)
        return machine.record()

    def report(self, report: HealthReport, now: float) -> NodeRecord:
        """Apply a report and return the node as it is now; an unknown node joins.

        Raises:
            TooManyNodesError: the node is unknown and the registry is full.
            NoSuchNodeError: the node is unknown and this is a check, which brings no nodes.
        """
        if report.source in self._checkers:
            checked = self._known(report.address, now)
            checked.check(report, self._now)
            return checked.record()
        machine = self._touch(report.address, now)
        if machine is None:
            machine = self._add(Node(address=report.address), now)
        if not machine.node.static:
            machine.node = renewed(machine.node, report)
        machine.agreed.heard = True
        machine.report(report, self._now)
        return self._refresh_node(report.address, machine)

    def lost(self, source: str, address: IPAddress, reason: str, now: float) -> None:
        """Note that a source lost a node; nothing if it never reported this node.

        Call it when the last stream of a node has closed, not for one of several.
        """
        machine = self._touch(address, now)
        if machine is not None:
            machine.lost(source, reason, self._now)

    def unused(self, source: str, now: float) -> None:
        """Forget what a source said of any node: it is no longer in use."""
        for address in self._machines:
            machine = self._touch(address, now)
            assert machine is not None
            machine.unused(source, self._now)

    def use_checkers(self, checkers: Collection[str], now: float) -> None:
        """Heed these checks from now on, and forget what others found."""
        self._checkers = tuple(checkers)
        for address in self._machines:
            machine = self._touch(address, now)
            assert machine is not None
            machine.expect(self._checkers, self._now)

    def set_neighbour(self, address: IPAddress, mac: str | None, now: float) -> None:
        """Set the MAC address of the next hop, None = unresolved; unknown nodes are ignored."""
        machine = self._touch(address, now)
        if machine is not None:
            machine.neighbour = mac

    # what the group says

    def agree(self, words: Mapping[IPAddress, bool], now: float, *, adopting: bool = False) -> None:
        """Take what the group makes of nodes; `adopting`: see `new_words`."""
        for machine, word in new_words(self._machines.values(), words, adopting=adopting):
            self._touch(machine.node.address, now)
            machine.agreed.routable = word

    def add_stranger(self, node: Node, now: float) -> None:
        """Add a node that only peers hear, or take over what they say of it; nothing if full."""
        known = self._machines.get(node.address)
        if known is None:
            with contextlib.suppress(TooManyNodesError):
                machine = self._add(node, now)
                machine.state, machine.reason, machine.agreed.heard = NodeState.DOWN, UNHEARD, False
        elif not known.agreed.heard and known.node != node:
            self._touch(node.address, now)
            known.node = node

    def heard(self, address: IPAddress) -> bool:
        """Whether this balancer has a view of its own of a node."""
        machine = self._machines.get(address)
        return machine is not None and machine.agreed.heard

    # what the operator says

    def drain(self, address: IPAddress, on: bool, now: float) -> NodeRecord:
        """Start or end draining; ending also overrules a shutdown that the node announced.

        Raises:
            NoSuchNodeError: the node is unknown.
        """
        machine = self._known(address, now)
        machine.drain(on, self._now)
        return machine.record()

    def set_weight(self, address: IPAddress, weight: int | None, now: float) -> NodeRecord:
        """Overrule the node's own weight (0 = no new flows), or None to follow it again.

        Raises:
            NoSuchNodeError: the node is unknown.
            GaleError: the weight is not between 0 and MAX_WEIGHT.
        """
        if weight is not None and not 0 <= weight <= MAX_WEIGHT:
            raise GaleError(f"node {address}: weight {weight}: must be from 0 to {MAX_WEIGHT}")
        machine = self._known(address, now)
        machine.set_weight(weight)
        return machine.record()

    def remove(self, address: IPAddress, now: float) -> NodeRecord:
        """Forget a node; the change taken next has a last record that says so.

        A node that still reports joins again.

        Raises:
            NoSuchNodeError: the node is unknown.
        """
        return self._forget(self._known(address, now).node.address, "removed")

    def reconfigure(self, settings: HealthSettings, now: float) -> None:
        """Go on with other settings; what was due under the old ones happens first."""
        self.tick(now)
        self._settings = settings
        self._warmth.forget()
        self._stale.update(self._machines)
        for machine in self._machines.values():
            machine.settings = settings

    # time

    def tick(self, now: float) -> None:
        """Let everything happen that is due: time-outs, the black list's end, forgiveness."""
        self._now = max(self._now, now)
        self._refresh()
        for address in self._deadlines.take(self._now):
            machine = self._machines[address]
            self._note(address, machine)
            machine.advance(self._now)

    def next_deadline(self) -> float | None:
        """Return when `tick` has something to do next; None = nothing before other calls."""
        self._refresh()
        return self._deadlines.next()

    # what others read

    def records(self) -> tuple[NodeRecord, ...]:
        """All nodes, in the order in which they joined."""
        self._refresh()
        return tuple([self._records[address] for address in self._machines])

    def get(self, address: IPAddress) -> NodeRecord | None:
        """Return one node, or None."""
        self._refresh()
        return self._records.get(address)

    def words(self, address: IPAddress, now: float) -> tuple[HealthWord, ...]:
        """Return the last word of every source about a node; none for an unknown node."""
        machine = self._machines.get(address)
        return () if machine is None else machine.words(max(self._now, now))

    def load(self, address: IPAddress) -> float | None:
        """Return runnable tasks per CPU of a node, smoothed; None = it does not say."""
        machine = self._machines.get(address)
        return None if machine is None else machine.load.smooth

    def weight_from(self, address: IPAddress) -> str:
        """Return whose word its weight is: operator, node, config, or default."""
        machine = self._machines.get(address)
        if machine is None:
            return "default"
        return weight_from(machine.operator_weight, machine.voices.values(), machine.node.static)

    def take_changes(self) -> list[tuple[NodeRecord | None, NodeRecord]]:
        """Return (old, new) of each node that differs since the last call; old None = new node.

        Several changes of one node in between come as one. A removed node comes with a record
        that is down, and `get` no longer knows it.
        """
        changes = []
        for address, old in self._before.items():
            new = self.get(address) or (None if old is None else self._removed.get(address))
            if new is not None and new != old:
                changes.append((old, new))
        self._before.clear()
        self._removed.clear()
        return changes

    # restart

    def snapshot(self, now: float) -> list[dict[str, Any]]:
        """Return all nodes as JSON-able data for `restore`; times are ages in seconds."""
        self.tick(now)
        return [describe(machine, self._now) for machine in self._machines.values()]

    def restore(self, data: Iterable[Mapping[str, Any]], now: float) -> tuple[str, ...]:
        """Adopt the nodes of a snapshot and return a sentence about each unusable entry.

        Adopted nodes keep their state until their own report, or until `checks_timeout` from
        now; then the normal rules hold. A node that was configured is adopted like any other,
        so that it leaves unless `add_static` names it again. Nodes already known only take
        over what the operator had set.
        """
        self._now = max(self._now, now)
        machines, problems = adopt_all(data, self._settings, self._now)
        for machine in machines:
            known = self._touch(machine.node.address, now)
            if known is not None:
                known.operator_draining = machine.operator_draining
                known.operator_weight = machine.operator_weight
                known.neighbour = known.neighbour or machine.neighbour
            elif len(self._machines) >= self._max_nodes:
                problems.append(f"node {machine.node.address} not adopted: {self._full()}")
            else:
                self._note(machine.node.address, None)
                machine.expect(self._checkers, self._now)
                self._take_in(machine)
                self._warmth.forget()
        return tuple(problems)

    def renew_adoption(self, now: float) -> None:
        """Give adopted nodes without a report of their own another `checks_timeout` from now.

        Call it once health sources listen: before that no node could have reported.
        """
        self._now = max(self._now, now)
        for machine in self._machines.values():
            if machine.adopted_until is not None:
                self._stale.add(machine.node.address)
                machine.adopted_until = self._now + self._settings.checks_timeout

    def excuse(self, now: float) -> None:
        """Note that until now no report could be heard, for longer than nodes may be silent.

        Nodes then have until `checks_timeout` from now, as after a restart, and nobody is blamed.
        Call it before anything else that takes this `now`.
        """
        self._now = max(self._now, now)
        for address, machine in self._machines.items():
            self._note(address, machine)
            machine.excuse(self._now)

    # details

    def _touch(self, address: IPAddress, now: float) -> NodeMachine | None:
        """Bring a node up to date before it changes."""
        self._now = max(self._now, now)
        machine = self._machines.get(address)
        if machine is not None:
            self._note(address, machine)
            machine.advance(self._now)
        return machine

    def _known(self, address: IPAddress, now: float) -> NodeMachine:
        machine = self._touch(address, now)
        if machine is None:
            raise NoSuchNodeError(f"node {address} is unknown; `galelb nodes` lists those known")
        return machine

    def _add(self, node: Node, now: float) -> NodeMachine:
        if len(self._machines) >= self._max_nodes:
            self.tick(now)
            self._make_room(node.address)
        self._note(node.address, None)
        machine = NodeMachine(settings=self._settings, node=node, since=self._now)
        machine.expect(self._checkers, self._now)
        self._take_in(machine)
        return machine

    def _take_in(self, machine: NodeMachine) -> None:
        address = machine.node.address
        machine.others_warm = partial(self._warmth.beside, address)
        machine.mean_load = self._mean_load.at
        self._machines[address] = machine

    def _loads(self) -> Iterator[float]:
        for machine in self._machines.values():
            if machine.state is NodeState.ROUTABLE and machine.load.smooth is not None:
                yield machine.load.smooth

    def _make_room(self, newcomer: IPAddress) -> None:
        """Forget the node that has been down longest, if long enough and nobody cares."""
        after_s = self._settings.black_list_expiry
        oldest = longest_down(self._machines.values(), self._now, after_s)
        if oldest is None:
            raise TooManyNodesError(f"node {newcomer} refused: {self._full()}")
        self._forget(oldest.node.address, f"forgotten to make room for {newcomer}")

    def _forget(self, address: IPAddress, reason: str) -> NodeRecord:
        machine = self._machines[address]
        self._note(address, machine)
        del self._machines[address]
        gone = attrs.evolve(machine.record(), state=NodeState.DOWN, reason=reason)
        self._removed[address] = gone
        return gone

    def _refresh(self) -> None:
        """Look again at the nodes that were touched; with thousands of them, only at these."""
        for address in list(self._stale):
            machine = self._machines.get(address)
            if machine is not None:
                self._refresh_node(address, machine)
            else:
                self._records.pop(address, None)
                self._deadlines.set(address, None)
        self._stale.clear()

    def _refresh_node(self, address: IPAddress, machine: NodeMachine) -> NodeRecord:
        """Look again at one node; its record stays the same object while nothing changes."""
        self._stale.discard(address)
        record, known = machine.record(), self._records.get(address)
        if record == known:
            record = known
        self._records[address] = record
        self._deadlines.set(address, machine.deadline())
        return record

    def _note(self, address: IPAddress, machine: NodeMachine | None) -> None:
        """Note that a node is about to change, or to join or leave."""
        if address not in self._before:
            known = self._records.get(address) if address not in self._stale else None
            self._before[address] = known or (None if machine is None else machine.record())
        self._stale.add(address)

    def _full(self) -> str:
        return f"this balancer knows {self._max_nodes} nodes already, which is its limit"
