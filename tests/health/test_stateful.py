# SPDX-License-Identifier: Apache-2.0
"""Whatever happens in whatever order, these things hold for the registry of nodes."""

import json
from ipaddress import ip_address

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from galelb.health import HealthSettings, NodeHealth, NoSuchNodeError, TooManyNodesError
from galelb.model import HealthReport, HealthStatus, Node, NodeState

NEEDED, TIMEOUT, FAILS, EXPIRY, MAX_NODES = 3, 5.0, 2, 30.0, 3
SETTINGS = HealthSettings(
    checks_before_routing=NEEDED,
    checks_timeout=TIMEOUT,
    black_list_after_fails=FAILS,
    black_list_expiry=EXPIRY,
)
ADDRESSES = [ip_address(f"10.0.0.{number}") for number in range(1, 5)]
addresses = st.sampled_from(ADDRESSES)
sources = st.sampled_from(["grpc", "http"])
CHECKER = "probe"


class Registry(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.health = NodeHealth(SETTINGS, max_nodes=MAX_NODES, checkers=[CHECKER])
        self.now = 0.0
        self.adopted_at = float("-inf")
        self.heard = {}  # (address, source) -> [(time, status)]
        self.served = {}  # (address, source) -> times, whether or not the source lost the node
        self.found = {}  # address -> whether its check passed
        self.seen = {}  # what a reader of the changes knows
        self.black_listed = {}  # address -> when it was first seen so
        self.static = set()

    @rule(seconds=st.sampled_from([0.0, 0.001, 1.0, 2.5, 4.999, 5.0, 29.0, 31.0]))
    def wait(self, seconds):
        self.now += seconds
        self.health.tick(self.now)

    @rule(address=addresses, source=sources, status=st.sampled_from(HealthStatus))
    def report(self, address, source, status):
        report = HealthReport(source=source, address=address, status=status)
        try:
            record = self.health.report(report, self.now)
        except TooManyNodesError:
            assert len(self.health.records()) == MAX_NODES
            return
        self.heard.setdefault((address, source), []).append((self.now, status))
        if status is HealthStatus.SERVING:
            self.served.setdefault((address, source), set()).add(self.now)
        assert record == self.health.get(address)
        if status is HealthStatus.NOT_SERVING:
            assert record.state in (NodeState.DOWN, NodeState.BLACKLISTED)

    @rule(address=addresses, status=st.sampled_from(HealthStatus))
    def look(self, address, status):
        report = HealthReport(source=CHECKER, address=address, status=status)
        try:
            record = self.health.report(report, self.now)
        except NoSuchNodeError:
            assert self.health.get(address) is None
            return
        self.found[address] = status is HealthStatus.SERVING
        if not self.found[address]:
            assert record.state in (NodeState.DOWN, NodeState.BLACKLISTED)

    @rule(address=addresses)
    def have_nothing_to_check(self, address):
        self.health.lost(CHECKER, address, "nothing to check", self.now)
        if self.health.get(address) is not None:
            self.found[address] = True

    @rule(address=addresses, source=sources, count=st.integers(1, 5))
    def serve(self, address, source, count):
        for _ in range(count):
            self.wait(1.0)
            self.report(address, source, HealthStatus.SERVING)

    @rule(address=addresses, source=sources)
    def lose(self, address, source):
        self.health.lost(source, address, "closed", self.now)
        self.heard.pop((address, source), None)

    @rule(address=addresses)
    def configure(self, address):
        try:
            self.health.add_static(Node(address=address), self.now)
        except TooManyNodesError:
            return
        self.static.add(address)

    @rule(address=addresses, on=st.booleans())
    def drain(self, address, on):
        if self.health.get(address) is not None:
            assert self.health.drain(address, on, self.now).draining is on

    @rule(address=addresses)
    def remove(self, address):
        if self.health.get(address) is not None:
            self.health.remove(address, self.now)
            self.forget(address)

    @rule()
    def restart(self):
        data = json.loads(json.dumps(self.health.snapshot(self.now)))
        before = self.health.records()
        self.health = NodeHealth(SETTINGS, max_nodes=MAX_NODES, checkers=[CHECKER])
        self.now += 1000.0
        self.adopted_at = self.now
        self.heard.clear()
        self.found.clear()
        self.seen.clear()
        self.black_listed.clear()
        assert self.health.restore(data, self.now) == ()
        assert [(r.node.address, r.state, r.draining, r.failures) for r in before] == [
            (r.node.address, r.state, r.draining, r.failures) for r in self.health.records()
        ]
        for address in self.static:
            if self.health.get(address) is not None:
                self.health.add_static(Node(address=address), self.now)

    def forget(self, address):
        self.static.discard(address)
        self.black_listed.pop(address, None)
        self.found.pop(address, None)
        for said in (self.heard, self.served):
            for key in [key for key in said if key[0] == address]:
                del said[key]

    def adopting(self):
        return self.now < self.adopted_at + TIMEOUT

    @invariant()
    def changes_tell_everything(self):
        for old, new in self.health.take_changes():
            address = new.node.address
            assert self.seen.get(address) == old
            assert old != new
            self.seen[address] = new
            if self.health.get(address) is None:
                self.forget(address)
                del self.seen[address]
        assert self.seen == {r.node.address: r for r in self.health.records()}

    @invariant()
    def nothing_is_overdue(self):
        self.health.tick(self.now)
        due = self.health.next_deadline()
        assert due is None or due > self.now

    @invariant()
    def nodes_are_bounded(self):
        assert len(self.health.records()) <= MAX_NODES

    @invariant()
    def failures_stay_below_the_limit_or_the_node_is_black_listed(self):
        for record in self.health.records():
            if record.state is NodeState.BLACKLISTED:
                assert record.failures == FAILS
            else:
                assert record.failures < FAILS

    @invariant()
    def the_black_list_lasts_no_longer_than_its_expiry(self):
        for record in self.health.records():
            address = record.node.address
            if record.state is NodeState.BLACKLISTED:
                since = self.black_listed.setdefault(address, self.now)
                assert self.now < since + EXPIRY
            else:
                self.black_listed.pop(address, None)

    @invariant()
    def a_routable_node_was_heard_and_nobody_says_otherwise(self):
        for record in self.health.records():
            if record.state is not NodeState.ROUTABLE:
                continue
            last = {
                source: says[-1]
                for (address, source), says in self.heard.items()
                if address == record.node.address
            }
            fresh = [status for at, status in last.values() if self.now < at + TIMEOUT]
            assert HealthStatus.NOT_SERVING not in fresh
            assert self.found.get(record.node.address) is not False
            assert fresh or record.node.static or self.adopting()
            if not record.node.static and self.adopted_at == float("-inf"):
                assert self.distinct_serving_reports(record.node.address) >= NEEDED

    def distinct_serving_reports(self, address):
        return max(len(times) for (key, _), times in self.served.items() if key == address)

    @invariant()
    def a_configured_node_waits_for_its_check_only_and_is_never_black_listed(self):
        for record in self.health.records():
            if record.node.static:
                waits = record.state is NodeState.PROBATION
                assert waits is record.reason.startswith(f"waiting for {CHECKER}")
                assert not waits or record.node.address not in self.found
                assert record.state is not NodeState.BLACKLISTED
                assert record.failures == 0


Registry.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestRegistry = Registry.TestCase
