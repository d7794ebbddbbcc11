# SPDX-License-Identifier: Apache-2.0
"""The rules of node health, one test each; time is a plain number."""

import json
from ipaddress import ip_address

import attrs
import pytest

from galelb.errors import GaleError
from galelb.health import (
    MAX_WEIGHT,
    HealthSettings,
    NodeHealth,
    NoSuchNodeError,
    TooManyNodesError,
)
from galelb.health.machine import MAX_TEXT, MAX_VOICES, plain_text
from galelb.model import HealthReport, HealthStatus, Node, NodeState

A = ip_address("10.0.0.1")
B = ip_address("10.0.0.2")
SERVING, NOT_SERVING, LEAVING = HealthStatus
PROBATION, ROUTABLE, DOWN, BLACKLISTED = NodeState
SETTINGS = HealthSettings(
    checks_before_routing=3, checks_timeout=5.0, black_list_after_fails=2, black_list_expiry=60.0
)


def said(status=SERVING, address=A, source="grpc", **more):
    return HealthReport(source=source, address=address, status=status, **more)


def make(**changes):
    return NodeHealth(attrs.evolve(SETTINGS, **changes))


def routable(now=0.0, **changes):
    """A registry with A routable since `now`."""
    health = make(**changes)
    for step in (-2, -1, 0):
        health.report(said(), now + step)
    health.take_changes()
    return health


def serve(health, start, stop):
    """A reports every second."""
    for now in range(start, stop):
        health.report(said(), now)


def fall(health, now):
    """A, silent since at most 5 s, falls once and is routable again at now + 3."""
    health.report(said(NOT_SERVING), now)
    for step in (1, 2, 3):
        health.report(said(), now + step)


class TestJoining:
    def test_a_node_is_routable_after_enough_reports_in_a_row(self):
        health = make()

        states = [(health.report(said(), now).state) for now in (0, 1, 2, 3)]

        assert [PROBATION, PROBATION, ROUTABLE, ROUTABLE] == states

    def test_one_report_is_enough_when_so_configured(self):
        assert make(checks_before_routing=1).report(said(), 0).state == ROUTABLE

    def test_reports_are_counted_for_people(self):
        health = make()

        record = health.report(said(), 0)

        assert (1, "1 of 3 reports in a row") == (record.reports, record.reason)

    def test_reports_of_the_same_instant_are_one_report(self):
        health = make()

        states = [health.report(said(), 7.0).state for _ in range(10)]

        assert {PROBATION} == set(states)
        assert 1 == health.get(A).reports

    def test_near_reports_count_each(self):
        health = make()

        states = [health.report(said(), now).state for now in (0, 0.001, 0.002)]

        assert ROUTABLE == states[-1]

    def test_two_sources_do_not_halve_probation(self):
        health = make()
        health.report(said(source="grpc"), 0)
        health.report(said(source="http"), 1)
        health.report(said(source="grpc"), 2)

        record = health.report(said(source="http"), 3)

        assert PROBATION == record.state
        assert 2 == record.reports

    def test_a_report_of_not_serving_begins_again(self):
        health = make()
        health.report(said(), 0)
        health.report(said(), 1)
        health.report(said(NOT_SERVING), 2)

        states = [health.report(said(), now).state for now in (3, 4, 5)]

        assert [PROBATION, PROBATION, ROUTABLE] == states

    def test_silence_begins_again(self):
        health = make()
        health.report(said(), 0)
        health.report(said(), 1)

        states = [health.report(said(), now).state for now in (6, 7, 8)]

        assert [PROBATION, PROBATION, ROUTABLE] == states

    def test_a_first_report_of_not_serving_is_a_node_that_is_down(self):
        record = make().report(said(NOT_SERVING, message="disk full"), 0)

        assert (DOWN, "not serving: disk full", 0) == (
            record.state,
            record.reason,
            record.failures,
        )

    def test_a_first_report_of_shutting_down_brings_no_traffic(self):
        health = make()

        for now in range(5):
            record = health.report(said(LEAVING), now)

        assert (DOWN, True) == (record.state, record.draining)

    def test_name_and_weight_are_what_the_node_says(self):
        health = make()
        health.report(said(name="web-1", weight=7), 0)

        record = health.report(said(), 1)

        assert Node(address=A, name="web-1", weight=7) == record.node

    def test_a_silly_weight_is_bounded(self):
        record = make().report(said(weight=10**9), 0)

        assert MAX_WEIGHT == record.weight

    def test_text_of_nodes_is_safe_to_print(self):
        record = make().report(said(NOT_SERVING, message="a\n\x1b[31mb" + "c" * 1000), 0)

        assert record.reason.isprintable()
        assert len(record.reason) <= MAX_TEXT + len("not serving: ")

    def test_plain_text_keeps_other_alphabets(self):
        assert "Größe 大" == plain_text(" Größe\t大\n")


class TestFalling:
    def test_not_serving_takes_a_node_down_at_once_and_is_a_failure(self):
        record = routable().report(said(NOT_SERVING), 1)

        assert (DOWN, 1) == (record.state, record.failures)

    def test_silence_takes_a_node_down_and_is_a_failure(self):
        health = routable()

        health.tick(4.999)
        before = health.get(A).state
        health.tick(5.0)

        assert ROUTABLE == before
        assert (DOWN, 1, "no report for 5 s") == (
            health.get(A).state,
            health.get(A).failures,
            health.get(A).reason,
        )

    def test_a_closed_stream_takes_a_node_down_and_is_a_failure(self):
        health = routable()

        health.lost("grpc", A, "connection reset", 1)

        assert (DOWN, 1, "connection reset") == (
            health.get(A).state,
            health.get(A).failures,
            health.get(A).reason,
        )

    def test_a_late_report_does_not_hide_the_silence_before_it(self):
        health = routable()

        record = health.report(said(), 20)

        assert (PROBATION, 1, 1) == (record.state, record.failures, record.reports)

    def test_falls_from_probation_are_no_failures(self):
        health = make()
        for now in (0, 10, 20, 30):
            health.report(said(), now)
            health.lost("grpc", A, "closed", now + 1)

        assert (DOWN, 0) == (health.get(A).state, health.get(A).failures)

    def test_a_repeated_report_of_not_serving_is_one_failure_with_the_latest_reason(self):
        health = routable()
        health.report(said(NOT_SERVING, message="a"), 1)

        record = health.report(said(NOT_SERVING, message="b"), 2)

        assert (1, "not serving: b") == (record.failures, record.reason)

    def test_silence_after_not_serving_is_no_second_failure(self):
        health = routable()
        health.report(said(NOT_SERVING), 1)

        health.tick(100)

        assert 1 == health.get(A).failures

    def test_losing_an_unknown_node_is_nothing(self):
        health = make()

        health.lost("grpc", A, "closed", 0)

        assert () == health.records()

    def test_a_source_that_never_spoke_cannot_lose_a_node(self):
        health = routable()

        health.lost("other", A, "closed", 1)

        assert ROUTABLE == health.get(A).state


class TestSeveralVoices:
    def test_not_serving_of_one_source_wins(self):
        health = routable()

        record = health.report(said(NOT_SERVING, source="http", message="500"), 1)
        later = health.report(said(source="grpc"), 2)

        assert (DOWN, DOWN) == (record.state, later.state)
        assert "not serving: 500" == later.reason

    def test_losing_one_of_two_sources_is_no_loss(self):
        health = routable()
        health.report(said(source="http"), 1)

        health.lost("http", A, "closed", 2)

        assert (ROUTABLE, 0) == (health.get(A).state, health.get(A).failures)

    def test_a_new_source_does_not_send_a_routable_node_to_probation(self):
        record = routable().report(said(source="http"), 1)

        assert ROUTABLE == record.state

    def test_silence_of_a_source_that_said_not_serving_is_forgotten_in_time(self):
        health = routable()
        health.report(said(NOT_SERVING, source="http"), 1)

        serve(health, 2, 6)
        before = health.get(A).state
        serve(health, 6, 9)

        assert (DOWN, ROUTABLE) == (before, health.get(A).state)

    def test_services_of_one_node_do_not_make_it_flap(self):
        health = routable()
        states = []
        for now in range(1, 9):
            health.report(said(NOT_SERVING, service="api"), now)
            states.append(health.report(said(service="web"), now + 0.5).state)

        assert {DOWN} == set(states)
        assert 1 == health.get(A).failures

    def test_a_babbling_node_is_bounded(self):
        health = make()

        for number in range(10 * MAX_VOICES):
            health.report(said(service=str(number)), number / 1000)

        assert len(health._machines[A].voices) == MAX_VOICES


class TestBlackList:
    def test_enough_failures_are_ignored_for_a_while(self):
        health = routable(now=9)
        fall(health, 10)
        serve(health, 14, 20)

        record = health.report(said(NOT_SERVING, message="oom"), 20)

        assert BLACKLISTED == record.state
        assert "black-listed after 2 failures, the last: not serving: oom" == record.reason

    def test_reports_do_not_help_a_black_listed_node(self):
        health = routable(now=9)
        fall(health, 10)
        serve(health, 14, 20)
        health.report(said(NOT_SERVING), 20)

        states = {health.report(said(), now).state for now in range(21, 80)}

        assert {BLACKLISTED} == states

    def test_afterwards_it_is_on_probation_with_a_clean_count(self):
        health = routable(now=9)
        fall(health, 10)
        serve(health, 14, 20)
        health.report(said(NOT_SERVING), 20)
        health.report(said(), 78)

        health.tick(80)

        assert (PROBATION, 0, 0) == (
            health.get(A).state,
            health.get(A).failures,
            health.get(A).reports,
        )
        states = [health.report(said(), now).state for now in (81, 82, 83)]
        assert [PROBATION, PROBATION, ROUTABLE] == states

    def test_a_node_that_is_silent_afterwards_is_down(self):
        health = routable(now=9)
        fall(health, 10)
        serve(health, 14, 20)
        health.lost("grpc", A, "closed", 20)

        health.tick(80)
        before = health.get(A).state
        health.tick(85)

        assert (PROBATION, DOWN) == (before, health.get(A).state)
        assert 0 == health.get(A).failures

    def test_a_node_that_says_not_serving_afterwards_is_down(self):
        health = routable(now=9)
        fall(health, 10)
        serve(health, 14, 20)
        health.report(said(NOT_SERVING), 20)
        health.report(said(NOT_SERVING), 78)

        health.tick(80)

        assert DOWN == health.get(A).state

    def test_minus_one_turns_it_off(self):
        health = routable(black_list_after_fails=-1)

        for number in range(20):
            fall(health, 10 * (number + 1))

        assert (ROUTABLE, 20) == (health.get(A).state, health.get(A).failures)

    def test_failures_are_forgiven_after_being_routable_long_enough(self):
        health = routable(now=9)
        fall(health, 10)  # routable again at 13
        serve(health, 14, 73)
        before = health.get(A).failures

        record = health.report(said(), 73)

        assert (1, 0) == (before, record.failures)

    def test_a_fall_begins_the_time_for_forgiveness_again(self):
        health = routable(now=9, black_list_after_fails=9)
        fall(health, 10)
        serve(health, 14, 60)
        fall(health, 60)  # routable at 63
        serve(health, 64, 120)

        assert 2 == health.get(A).failures


class TestTiming:
    """Reports early, late, twice and from two streams."""

    def test_a_report_at_the_very_end_of_the_timeout_is_too_late(self):
        health = routable()

        assert (DOWN, 1) == (health.report(said(NOT_SERVING), 5).state, health.get(A).failures)

    def test_a_report_just_before_the_end_is_in_time(self):
        health = routable()

        assert ROUTABLE == health.report(said(), 4.999).state

    def test_a_report_after_the_timeout_begins_probation(self):
        health = routable()
        record = health.report(said(), 5.0)

        assert (PROBATION, 1, 1) == (record.state, record.failures, record.reports)

    def test_reports_that_come_twice_do_not_shorten_probation(self):
        health = make()
        for now in (0, 0, 1, 1):
            record = health.report(said(), now)

        assert (PROBATION, 2) == (record.state, record.reports)

    def test_two_streams_of_one_node_are_one_voice(self):
        """The same source and service: what came last holds, and one bad word counts once."""
        health = routable()
        health.report(said(NOT_SERVING), 1)
        health.report(said(NOT_SERVING), 1.1)
        again = health.report(said(), 1.2)

        assert (PROBATION, 1) == (again.state, again.failures)

    def test_a_flapping_node_is_black_listed_again_and_again(self):
        """Two falls in 8 s, then 60 s of rest: it gets traffic for 2 s of each 68."""
        health = make()
        states = []
        for second in range(2 * 68):
            status = NOT_SERVING if second % 4 == 3 else SERVING
            states.append(health.report(said(status), second).state)

        assert [BLACKLISTED] * 2 == [states[7], states[7 + 68]]
        assert states[:68] == states[68:]
        assert 2 == states[:68].count(ROUTABLE)
        assert 60 == states[:68].count(BLACKLISTED)


class TestDraining:
    def test_an_announced_shutdown_keeps_the_node_routable_but_draining(self):
        record = routable().report(said(LEAVING), 1)

        assert (ROUTABLE, True, 0) == (record.state, record.draining, record.failures)
        assert "serving; announced its shutdown" == record.reason

    @pytest.mark.parametrize(
        "end",
        [
            lambda health: health.lost("grpc", A, "closed", 2),
            lambda health: health.tick(100),
            lambda health: health.report(said(NOT_SERVING), 2),
        ],
        ids=["stream closed", "silence", "not serving"],
    )
    def test_the_end_of_an_announced_shutdown_is_no_failure(self, end):
        health = routable()
        health.report(said(LEAVING), 1)

        end(health)

        assert (DOWN, 0) == (health.get(A).state, health.get(A).failures)

    def test_a_node_that_returns_from_its_shutdown_joins_as_usual(self):
        health = routable()
        health.report(said(LEAVING), 1)
        health.lost("grpc", A, "closed", 2)

        records = [health.report(said(), now) for now in (10, 11, 12)]

        assert [PROBATION, PROBATION, ROUTABLE] == [r.state for r in records]
        assert [False, False, False] == [r.draining for r in records]

    def test_a_node_that_returns_unfit_from_its_shutdown_does_not_drain_any_more(self):
        health = routable()
        health.report(said(LEAVING), 1)
        health.lost("grpc", A, "closed", 2)
        record = health.report(said(NOT_SERVING, message="no VIP"), 3)

        assert (DOWN, False, "not serving: no VIP", 0) == (
            record.state,
            record.draining,
            record.reason,
            record.failures,
        )

    def test_not_serving_within_an_announced_shutdown_is_no_failure(self):
        health = routable()
        health.report(said(LEAVING), 1)
        record = health.report(said(NOT_SERVING), 2)

        assert (DOWN, 0) == (record.state, record.failures)

    def test_a_shutdown_can_be_taken_back(self):
        health = routable()
        health.report(said(LEAVING), 1)

        record = health.report(said(), 2)

        assert (ROUTABLE, False) == (record.state, record.draining)

    def test_the_operator_drains_and_undrains(self):
        health = routable()

        on = health.drain(A, True, 1)
        off = health.drain(A, False, 2)

        assert [(ROUTABLE, True), (ROUTABLE, False)] == [
            (on.state, on.draining),
            (off.state, off.draining),
        ]
        assert "serving; drained by the operator" == on.reason

    def test_an_operators_drain_outlives_reports_and_falls_and_makes_them_blameless(self):
        health = routable()
        health.drain(A, True, 1)

        fall(health, 2)

        assert (ROUTABLE, True, 0) == (
            health.get(A).state,
            health.get(A).draining,
            health.get(A).failures,
        )

    def test_undrain_overrules_an_announced_shutdown(self):
        health = routable()
        health.report(said(LEAVING), 1)

        record = health.drain(A, False, 2)

        assert not record.draining

    def test_draining_an_unknown_node_is_an_error_that_says_what_to_do(self):
        with pytest.raises(NoSuchNodeError, match=r"10\.0\.0\.1 is unknown; `galelb nodes`"):
            make().drain(A, True, 0)


class TestOperatorAndNeighbours:
    def test_the_operators_weight_overrules_and_can_be_taken_back(self):
        health = routable()
        health.report(said(weight=5), 1)

        weights = [
            health.set_weight(A, 9, 2).weight,
            health.report(said(weight=6), 3).weight,
            health.set_weight(A, None, 4).weight,
        ]

        assert [9, 9, 6] == weights

    @pytest.mark.parametrize("weight", [-1, MAX_WEIGHT + 1])
    def test_a_weight_out_of_range_is_refused(self, weight):
        with pytest.raises(GaleError, match="from 0 to 65535"):
            routable().set_weight(A, weight, 1)

    def test_a_node_takes_flows_only_with_a_neighbour(self):
        health = routable()
        before = health.get(A).takes_new_flows

        health.set_neighbour(A, "02:00:00:00:00:01", 1)

        assert (False, True) == (before, health.get(A).takes_new_flows)

    def test_a_neighbour_of_an_unknown_node_is_ignored(self):
        health = make()

        health.set_neighbour(A, "02:00:00:00:00:01", 1)

        assert [] == health.take_changes()


class TestStaticNodes:
    def test_is_routable_at_once_and_for_ever(self):
        health = make()
        record = health.add_static(Node(address=A, weight=3), 0)

        health.tick(10**9)

        assert (ROUTABLE, 3, True) == (record.state, record.weight, record.node.static)
        assert ROUTABLE == health.get(A).state
        assert health.next_deadline() is None

    def test_obeys_a_source_that_says_not_serving_without_probation_or_failure(self):
        health = make()
        health.add_static(Node(address=A), 0)

        down = health.report(said(NOT_SERVING), 1)
        up = health.report(said(), 2)

        assert [(DOWN, 0), (ROUTABLE, 0)] == [
            (down.state, down.failures),
            (up.state, up.failures),
        ]

    def test_is_routable_when_the_source_that_said_not_serving_is_silent(self):
        health = make()
        health.add_static(Node(address=A), 0)
        health.report(said(NOT_SERVING), 1)

        health.tick(6)

        assert ROUTABLE == health.get(A).state

    def test_is_routable_when_its_stream_closes(self):
        health = make()
        health.add_static(Node(address=A), 0)
        health.report(said(), 1)

        health.lost("grpc", A, "closed", 2)

        assert (ROUTABLE, 0) == (health.get(A).state, health.get(A).failures)

    def test_its_configuration_wins_over_the_name_that_it_announces(self):
        health = make()
        health.add_static(Node(address=A, name="one"), 0)

        assert "one" == health.report(said(name="two"), 1).node.name

    def test_a_black_listed_node_that_gets_configured_is_routable(self):
        health = routable(black_list_after_fails=1)
        health.lost("grpc", A, "closed", 1)

        record = health.add_static(Node(address=A), 2)

        assert (ROUTABLE, 0) == (record.state, record.failures)


class TestTime:
    def test_states_do_not_depend_on_how_often_tick_is_called(self):
        lazy, eager = routable(now=9), routable(now=9)
        for registry in (lazy, eager):
            fall(registry, 10)
            serve(registry, 14, 20)
            registry.report(said(NOT_SERVING), 20)
        for tenth in range(200, 2000):
            eager.tick(tenth / 10)
        lazy.tick(199.9)

        assert eager.records() == lazy.records()

    def test_next_deadline_is_when_something_happens(self):
        health = make()
        health.report(said(), 10)
        health.report(said(address=B), 12)

        due = health.next_deadline()
        health.tick(due)

        assert 15 == due
        assert (DOWN, PROBATION) == (health.get(A).state, health.get(B).state)
        assert 17 == health.next_deadline()

    def test_without_nodes_there_is_no_deadline(self):
        assert make().next_deadline() is None

    def test_time_never_goes_back(self):
        health = routable(now=100.0)

        health.report(said(), 3.0)
        health.tick(104.9)

        assert ROUTABLE == health.get(A).state

    def test_a_black_list_that_is_turned_off_lets_nodes_return(self):
        health = routable(black_list_after_fails=1)
        health.report(said(NOT_SERVING), 1)
        before = health.get(A).state

        health.reconfigure(attrs.evolve(SETTINGS, black_list_after_fails=-1), 2)
        for now in (3, 4, 5):
            health.report(said(), now)

        assert (BLACKLISTED, ROUTABLE) == (before, health.get(A).state)

    def test_a_longer_black_list_holds_for_nodes_that_are_in_it(self):
        health = routable(black_list_after_fails=1)
        health.report(said(NOT_SERVING), 1)

        health.reconfigure(
            attrs.evolve(SETTINGS, black_list_after_fails=1, black_list_expiry=100.0), 2
        )
        health.tick(100.9)
        before = health.get(A).state
        health.tick(101)

        assert (BLACKLISTED, PROBATION) == (before, health.get(A).state)

    def test_nodes_of_both_families_may_be_due_at_once(self):
        health = make()
        for address in (A, ip_address("::a00:1"), B, ip_address("::a00:2")):
            health.report(said(address=address), 0)
        health.tick(5)

        assert [DOWN] * 4 == [record.state for record in health.records()]

    def test_an_excuse_keeps_states_for_one_timeout(self):
        health = routable()
        health.excuse(100)
        at_once = health.get(A).state
        health.tick(104.9)
        before = health.get(A).state
        health.tick(105)

        assert [ROUTABLE, ROUTABLE, DOWN] == [at_once, before, health.get(A).state]
        assert 0 == health.get(A).failures

    def test_an_excuse_does_not_shorten_the_black_list(self):
        health = routable(black_list_after_fails=1)
        health.report(said(NOT_SERVING), 1)
        health.excuse(30)
        health.tick(60.9)
        before = health.get(A).state
        health.tick(61)

        assert (BLACKLISTED, PROBATION) == (before, health.get(A).state)

    def test_other_settings_hold_from_then_on(self):
        health = routable()

        health.reconfigure(attrs.evolve(SETTINGS, checks_timeout=2.0), 1)
        health.tick(2)

        assert DOWN == health.get(A).state


class TestChanges:
    def test_a_new_node_has_no_old_record(self):
        health = make()
        record = health.report(said(), 0)

        assert [(None, record)] == health.take_changes()
        assert [] == health.take_changes()

    def test_reports_that_change_nothing_are_no_changes(self):
        health = routable()

        for now in (1, 2, 3):
            health.report(said(), now)

        assert [] == health.take_changes()

    def test_a_change_names_old_and_new(self):
        health = routable()
        old = health.get(A)

        health.tick(5)

        assert [(old, health.get(A))] == health.take_changes()

    def test_a_removed_node_comes_once_more_and_is_unknown(self):
        health = routable()
        old = health.get(A)

        gone = health.remove(A, 1)

        assert (DOWN, "removed") == (gone.state, gone.reason)
        assert [(old, gone)] == health.take_changes()
        assert health.get(A) is None

    def test_a_node_that_came_and_went_in_between_is_no_change(self):
        health = make()
        health.report(said(), 0)
        health.remove(A, 1)

        assert [] == health.take_changes()

    def test_removing_an_unknown_node_is_an_error(self):
        with pytest.raises(NoSuchNodeError):
            make().remove(A, 0)


class TestBounds:
    def test_a_full_registry_refuses_with_a_reason(self):
        health = NodeHealth(SETTINGS, max_nodes=1)
        health.report(said(), 0)

        with pytest.raises(TooManyNodesError, match=r"10\.0\.0\.2 refused: this balancer knows 1 "):
            health.report(said(address=B), 1)
        assert (A,) == tuple(record.node.address for record in health.records())

    def test_a_node_long_down_makes_room(self):
        health = NodeHealth(SETTINGS, max_nodes=1)
        health.report(said(), 0)  # down at 5
        health.take_changes()

        health.report(said(address=B), 65)

        assert health.get(A) is None
        assert ["forgotten to make room for 10.0.0.2", "1 of 3 reports in a row"] == [
            new.reason for _, new in health.take_changes()
        ]

    @pytest.mark.parametrize(
        "keep",
        [
            lambda health: health.drain(A, True, 1),
            lambda health: health.set_weight(A, 3, 1),
            lambda health: health.add_static(Node(address=A), 1),
        ],
        ids=["drained", "weighted", "static"],
    )
    def test_a_node_that_somebody_cares_for_is_kept(self, keep):
        health = NodeHealth(SETTINGS, max_nodes=1)
        health.report(said(), 0)
        keep(health)

        with pytest.raises(TooManyNodesError):
            health.report(said(address=B), 1000)


class TestRestart:
    def restarted(self, health, now, start, **changes):
        new = make(**changes)
        problems = new.restore(health.snapshot(now), start)
        assert () == problems
        return new

    def test_adopted_nodes_keep_all_that_was_known(self):
        health = routable()
        health.report(said(name="web", weight=4), 1)
        health.drain(A, True, 1)
        health.set_weight(A, 2, 1)
        health.set_neighbour(A, "02:00:00:00:00:01", 1)

        new = self.restarted(health, 2, 1000)

        assert health.records() == new.records()

    def test_a_snapshot_is_plain_data(self):
        data = routable().snapshot(1)

        assert data == json.loads(json.dumps(data))

    def test_they_keep_their_state_until_the_timeout_after_the_start(self):
        new = self.restarted(routable(), 2, 1000)

        new.tick(1004.9)
        before = new.get(A).state
        new.tick(1005)

        assert ROUTABLE == before
        assert (DOWN, 0) == (new.get(A).state, new.get(A).failures)
        assert "no report within 5 s after the balancer's start" == new.get(A).reason

    def test_their_time_counts_from_when_sources_listen(self):
        new = self.restarted(routable(), 2, 1000)
        new.renew_adoption(1004)
        new.tick(1008.9)
        before = new.get(A).state
        new.tick(1009)

        assert (ROUTABLE, DOWN) == (before, new.get(A).state)

    def test_the_time_of_nodes_that_reported_is_not_renewed(self):
        new = self.restarted(routable(), 2, 1000)
        new.report(said(), 1001)
        new.renew_adoption(1004)
        new.tick(1006)

        assert DOWN == new.get(A).state

    def test_they_stay_with_their_own_report_and_then_follow_the_rules(self):
        new = self.restarted(routable(), 2, 1000)

        record = new.report(said(), 1003)
        new.tick(1007.9)
        before = new.get(A)
        new.tick(1008)

        assert (ROUTABLE, ROUTABLE) == (record.state, before.state)
        assert (DOWN, 1) == (new.get(A).state, new.get(A).failures)

    def test_a_report_of_not_serving_takes_an_adopted_node_down(self):
        new = self.restarted(routable(), 2, 1000)

        record = new.report(said(NOT_SERVING), 1001)

        assert (DOWN, 1) == (record.state, record.failures)

    def test_probation_goes_on_where_it_was(self):
        health = make()
        health.report(said(), 0)
        health.report(said(), 1)

        new = self.restarted(health, 2, 1000)

        assert ROUTABLE == new.report(said(), 1001).state

    def test_the_black_list_goes_on_where_it_was(self):
        health = routable(now=9, black_list_after_fails=1)
        health.lost("grpc", A, "closed", 10)

        new = self.restarted(health, 40, 1000, black_list_after_fails=1)
        new.tick(1029.9)
        before = new.get(A).state
        new.tick(1030)

        assert BLACKLISTED == before
        assert BLACKLISTED != new.get(A).state

    def test_a_node_that_was_down_stays_down(self):
        health = routable()
        health.lost("grpc", A, "closed", 1)

        new = self.restarted(health, 2, 1000)
        new.tick(2000)

        assert (DOWN, "closed") == (new.get(A).state, new.get(A).reason)

    @pytest.mark.parametrize("configured_first", [True, False])
    def test_configured_nodes_keep_what_the_operator_set(self, configured_first):
        health = make()
        health.add_static(Node(address=A, weight=3), 0)
        health.drain(A, True, 1)
        health.set_weight(A, 8, 1)
        data = health.snapshot(2)

        new = make()
        if configured_first:
            new.add_static(Node(address=A, weight=3), 1000)
        new.restore(data, 1000)
        record = new.add_static(Node(address=A, weight=3), 1000)
        new.tick(2000)

        assert (ROUTABLE, True, 8) == (record.state, record.draining, record.weight)
        assert ROUTABLE == new.get(A).state

    def test_a_node_that_is_no_longer_configured_leaves(self):
        health = make()
        health.add_static(Node(address=A), 0)

        new = self.restarted(health, 1, 1000)
        new.tick(1005)

        assert DOWN == new.get(A).state

    @pytest.mark.parametrize(
        "broken",
        [
            {},
            {"address": "x"},
            {"state": "sleeping"},
            {"weight": "3"},
            {"operator_weight": "3"},
            {"age_s": None},
        ],
    )
    def test_unusable_entries_are_named_and_the_rest_adopted(self, broken):
        good = routable().snapshot(1)[0]
        bad = {**good, "address": "10.0.0.2", **broken} if broken else {}

        new = make()
        problems = new.restore([bad, good], 1000)

        assert 1 == len(problems)
        assert problems[0].startswith("node 0 of the saved state is unusable")
        assert (A,) == tuple(record.node.address for record in new.records())

    def test_more_nodes_than_allowed_are_not_adopted(self):
        health = routable()
        health.report(said(address=B), 0)
        new = NodeHealth(SETTINGS, max_nodes=1)

        problems = new.restore(health.snapshot(1), 1000)

        assert 1 == len(problems)
        assert 1 == len(new.records())
