# SPDX-License-Identifier: Apache-2.0
"""Whose word a node's weight is, and what of it counts: over the registry, in virtual time."""

import json
from ipaddress import ip_address

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from galelb.health import HealthSettings, NodeHealth
from galelb.model import HealthReport, HealthStatus, Node, NodeState

A, B = ip_address("10.0.0.1"), ip_address("10.0.0.2")
SERVING, NOT_SERVING, LEAVING = HealthStatus
START_S = 38.0  # a step each 2 s
SETTINGS = HealthSettings(
    checks_before_routing=1, checks_timeout=5.0, black_list_after_fails=-1, slow_start=START_S
)


def said(address=A, status=SERVING, source="grpc", **more):
    return HealthReport(source=source, address=address, status=status, **more)


def make(**changes):
    """A registry where B has had flows for long."""
    health = NodeHealth(attrs.evolve(SETTINGS, **changes))
    health.add_static(Node(address=B), -1000.0)
    health.tick(0.0)
    return health


def share(health, address=A):
    return health.get(address).start_share


def serve(health, start, stop, **more):
    for now in range(start, stop):
        health.report(said(**more), float(now))


class TestSlowStart:
    def test_a_node_that_joins_grows_to_its_share(self):
        health = make()
        health.report(said(weight=10), 0.0)
        assert (5, 0.5) == (share(health), health.get(A).effective_weight)

        serve(health, 1, 20)
        assert 50 == share(health)
        serve(health, 20, 39)

        assert (100, 10) == (share(health), health.get(A).effective_weight)

    def test_each_step_is_a_change_that_comes_by_itself(self):
        health = make()
        health.add_static(Node(address=A), 0.0)
        health.take_changes()

        shares = []
        while (due := health.next_deadline()) is not None:
            health.tick(due)
            shares += [new.start_share for _, new in health.take_changes()]

        assert list(range(10, 101, 5)) == shares
        assert due is None

    def test_it_starts_anew_after_every_fall(self):
        health = make()
        serve(health, 0, 60)
        health.report(said(status=NOT_SERVING), 60.0)

        health.report(said(), 61.0)

        assert 5 == share(health)

    def test_after_a_fall_of_all_nobody_starts_slowly(self):
        """There is nobody to carry what it would spare, and tables would only change often."""
        health = NodeHealth(SETTINGS)
        serve(health, 0, 60)
        health.report(said(status=NOT_SERVING), 60.0)

        health.report(said(), 61.0)
        health.report(said(B), 62.0)

        assert (100, 100) == (share(health), share(health, B))

    def test_who_drains_starts_when_the_drain_ends(self):
        health = make()
        health.add_static(Node(address=A), 0.0)
        health.tick(100.0)
        health.drain(A, True, 100.0)
        health.report(said(status=NOT_SERVING), 110.0)
        health.report(said(), 120.0)
        serve(health, 121, 200)
        assert 0 == health.get(A).effective_weight

        health.drain(A, False, 200.0)

        assert (5, 0.05) == (share(health), health.get(A).effective_weight)

    def test_a_drain_alone_cools_no_node(self):
        health = make()
        serve(health, 0, 60)
        health.drain(A, True, 60.0)
        serve(health, 60, 300)

        health.drain(A, False, 300.0)

        assert 100 == share(health)

    def test_nobody_carries_what_nodes_that_drain_could(self):
        health = make()
        health.drain(B, True, 0.0)

        health.report(said(), 1.0)

        assert 100 == share(health)

    def test_who_is_warm_is_looked_for_anew_when_that_may_have_changed(self):
        """What was found is kept, since thousands may return at once."""
        health, third = NodeHealth(SETTINGS), ip_address("10.0.0.3")
        for now in range(40):
            health.report(said(B), float(now))

        assert 5 == health.report(said(third), 39.5).start_share
        health.remove(third, 40.0)
        health.drain(B, True, 40.0)
        health.report(said(B), 41.0)
        assert 100 == health.report(said(third), 42.0).start_share
        health.remove(third, 43.0)
        health.drain(B, False, 43.0)
        assert 5 == health.report(said(third), 44.0).start_share

    def test_shorter_slow_starts_make_nodes_warm_earlier(self):
        health = NodeHealth(SETTINGS)
        health.report(said(B), 0.0)
        health.report(said(), 1.0)
        assert 100 == share(health)

        health.reconfigure(attrs.evolve(SETTINGS, slow_start=2.0), 3.0)

        assert 5 == health.report(said(ip_address("10.0.0.3")), 3.5).start_share

    def test_the_operators_weight_holds_at_once(self):
        health = make()
        health.report(said(), 0.0)

        record = health.set_weight(A, 7, 1.0)

        assert (7, 100) == (record.effective_weight, record.start_share)

    def test_it_grows_to_the_operators_weight_after_the_next_fall(self):
        health = make()
        health.report(said(), 0.0)
        health.set_weight(A, 7, 1.0)
        health.report(said(status=NOT_SERVING), 2.0)

        record = health.report(said(), 3.0)

        assert (pytest.approx(0.35), 5) == (record.effective_weight, record.start_share)

    def test_without_it_all_comes_at_once(self):
        health = make(slow_start=0.0)

        assert 100 == health.report(said(), 0.0).start_share

    def test_a_reload_without_it_ends_it(self):
        health = make()
        serve(health, 0, 10)

        health.reconfigure(attrs.evolve(SETTINGS, slow_start=0.0), 10.0)
        health.tick(10.0)

        assert 100 == share(health)

    def test_a_restart_of_the_balancer_goes_on_where_it_was(self):
        health = make()
        serve(health, 0, 20)
        saved = json.loads(json.dumps(health.snapshot(19.5)))

        health = NodeHealth(SETTINGS)
        assert () == health.restore(saved, 5000.0)
        assert 50 == share(health)
        serve(health, 5000, 5021)

        assert 100 == share(health)

    def test_a_state_of_before_there_were_slow_starts_is_of_warm_nodes(self):
        health = make()
        serve(health, 0, 5)
        saved = health.snapshot(5.0)
        for entry in saved:
            for key in ("serving_age_s", "start_share", "load_share"):
                del entry[key]

        health = NodeHealth(SETTINGS)
        assert () == health.restore(saved, 10.0)

        assert 100 == share(health)
        assert 5 == health.report(said(ip_address("10.0.0.3")), 11.0).start_share


class TestWhoseWord:
    def test_the_operators_wins_over_the_nodes_and_that_over_the_configurations(self):
        health = make()
        health.add_static(Node(address=A, weight=3), 0.0)
        words = [(health.get(A).weight, health.weight_from(A))]
        health.report(said(weight=5), 1.0)
        words.append((health.get(A).weight, health.weight_from(A)))
        health.set_weight(A, 9, 2.0)
        words.append((health.get(A).weight, health.weight_from(A)))
        health.set_weight(A, None, 3.0)
        words.append((health.get(A).weight, health.weight_from(A)))

        assert [(3, "config"), (5, "node"), (9, "operator"), (5, "node")] == words

    def test_a_node_that_announces_nothing_has_the_configurations(self):
        health = make()
        health.add_static(Node(address=A, weight=3), 0.0)

        record = health.report(said(), 1.0)

        assert (3, "config") == (record.weight, health.weight_from(A))

    def test_a_reload_does_not_overrule_a_node_that_speaks(self):
        health = make()
        health.add_static(Node(address=A, weight=3), 0.0)
        health.report(said(weight=5), 1.0)

        assert 5 == health.add_static(Node(address=A, weight=4), 2.0).weight

    def test_a_node_that_comes_back_without_a_weight_has_none_of_its_own(self):
        health = make()
        health.report(said(weight=5), 1.0)
        health.lost("grpc", A, "closed", 2.0)

        record = health.report(said(), 3.0)

        assert (1, "default") == (record.weight, health.weight_from(A))

    def test_a_source_that_knows_no_weights_changes_none(self):
        health = make()
        health.report(said(weight=5), 1.0)

        assert 5 == health.report(said(source="http"), 2.0).weight


class TestLoad:
    def test_a_busy_node_gets_less(self):
        health = make(load_weight=True, slow_start=0.0)

        serve(health, 0, 62, load=4.0, weight=10)

        assert (80, 8) == (health.get(A).load_share, health.get(A).effective_weight)
        assert health.load(A) == pytest.approx(4.0)

    def test_where_the_others_are_as_busy_nobody_gets_less(self):
        health = make(load_weight=True, slow_start=0.0)

        for now in range(300):
            health.report(said(load=4.0), float(now))
            health.report(said(B, load=4.0), float(now))

        assert [100, 100] == [record.load_share for record in health.records()]

    def test_a_busier_one_among_them_does(self):
        health = make(load_weight=True, slow_start=0.0)

        for now in range(62):
            health.report(said(load=4.0), float(now))
            health.report(said(B, load=2.0), float(now))

        assert (80, 100) == (health.get(A).load_share, health.get(B).load_share)

    def test_unless_nobody_asked_for_that(self):
        health = make(slow_start=0.0)

        serve(health, 0, 200, load=4.0)

        assert 100 == health.get(A).load_share

    def test_the_operators_weight_is_not_questioned(self):
        health = make(load_weight=True, slow_start=0.0)
        health.report(said(), 0.0)
        health.set_weight(A, 6, 0.0)

        serve(health, 1, 200, load=4.0)

        assert 6 == health.get(A).effective_weight

    def test_who_says_nothing_of_its_load_has_all(self):
        health = make(load_weight=True, slow_start=0.0)

        serve(health, 0, 200)

        assert (100, None) == (health.get(A).load_share, health.load(A))

    def test_reports_of_the_load_alone_are_no_changes(self):
        health = make(load_weight=True, slow_start=0.0)
        health.report(said(load=0.5), 0.0)
        health.take_changes()

        serve(health, 1, 30, load=0.7)

        assert [] == health.take_changes()

    def test_a_restart_of_the_balancer_keeps_it(self):
        health = make(load_weight=True, slow_start=0.0)
        serve(health, 0, 62, load=4.0)
        saved = json.loads(json.dumps(health.snapshot(62.0)))

        health = NodeHealth(attrs.evolve(SETTINGS, load_weight=True))
        health.restore(saved, 100.0)

        assert NodeState.ROUTABLE == health.get(A).state
        assert 80 == health.get(A).load_share


def everybody_warm(health, address, now):
    """What `Warmth` has to find, by looking at all nodes."""
    return any(
        record.state is NodeState.ROUTABLE
        and not record.draining
        and health._machines[record.node.address].start.since + START_S <= now
        for record in health.records()
        if record.node.address != address
    )


STEPS = st.tuples(
    st.sampled_from(["serve", "fall", "drain", "undrain", "remove", "restart"]),
    st.sampled_from([A, B, ip_address("10.0.0.3")]),
    st.sampled_from([0.0, 1.0, 4.0, START_S / 2, START_S]),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(STEPS, max_size=30))
def test_what_is_remembered_of_warm_nodes_is_what_a_look_at_all_finds(steps):
    health, now = NodeHealth(attrs.evolve(SETTINGS, checks_timeout=1e6)), 0.0
    for what, address, wait in steps:
        now += wait
        known = health.get(address) is not None
        if what == "serve":
            health.report(said(address), now)
        elif what == "fall":
            health.report(said(address, NOT_SERVING), now)
        elif what == "restart":
            saved, health = health.snapshot(now), NodeHealth(attrs.evolve(SETTINGS))
            health.restore(saved, now)
            health.reconfigure(attrs.evolve(SETTINGS, checks_timeout=1e6), now)
        elif known and what == "remove":
            health.remove(address, now)
        elif known:
            health.drain(address, what == "drain", now)
        for record in health.records():
            asked = record.node.address
            assert health._warmth.beside(asked, now) is everybody_warm(health, asked, now)
