# SPDX-License-Identifier: Apache-2.0
"""How the word of active checks is weighed against what nodes say of themselves."""

from ipaddress import ip_address

import pytest

from galelb.health import HealthSettings, NodeHealth, NoSuchNodeError
from galelb.model import HealthReport, HealthStatus, Node, NodeState

A = ip_address("10.0.0.1")
SERVING, NOT_SERVING, LEAVING = HealthStatus
PROBATION, ROUTABLE, DOWN, BLACKLISTED = NodeState
SETTINGS = HealthSettings(
    checks_before_routing=2, checks_timeout=5.0, black_list_after_fails=2, black_list_expiry=60.0
)


def make(*checkers):
    return NodeHealth(SETTINGS, checkers=checkers or ("probe",))


def said(status=SERVING, source="grpc", **more):
    return HealthReport(source=source, address=A, status=status, **more)


def found(status=SERVING, source="probe", **more):
    return said(status, source, **more)


def own(health, *times):
    """The node says at these times that it serves."""
    for now in times:
        health.report(said(), now)
    return health.get(A)


def routable(*checkers):
    """A, which reports, passed its check and is routable since 1."""
    health = make(*checkers)
    own(health, 0)
    health.report(found(), 0.5)
    assert own(health, 1).state is ROUTABLE
    return health


def static(*checkers):
    """A, which is configured, passed its check and is routable."""
    health = make(*checkers)
    health.add_static(Node(address=A), 0)
    health.report(found(), 0)
    return health


class TestNodesThatReport:
    def test_wait_for_the_check(self):
        health = make()

        record = own(health, 0, 1, 2)

        assert (PROBATION, "waiting for probe") == (record.state, record.reason)
        assert ROUTABLE == health.report(found(), 2.5).state

    def test_wait_for_every_check(self):
        health = make("probe", "consul")
        own(health, 0, 1, 2)

        record = health.report(found(), 2)

        assert (PROBATION, "waiting for consul") == (record.state, record.reason)

    def test_are_not_made_routable_by_a_check(self):
        health = make()
        own(health, 0)

        states = {health.report(found(), now).state for now in (1, 2, 3)}

        assert {PROBATION} == states

    def test_a_failed_check_wins_over_serving(self):
        health = routable()

        record = health.report(found(NOT_SERVING, message="no answer"), 1.5)

        assert (DOWN, "probe: no answer", 1) == (record.state, record.reason, record.failures)
        assert DOWN == own(health, 2, 3, 4).state
        assert "probe: no answer" == health.get(A).reason

    def test_prove_themselves_anew_after_a_failed_check(self):
        health = routable()
        health.report(found(NOT_SERVING), 1.5)
        own(health, 2, 3)

        passed = health.report(found(), 3.5)

        assert (PROBATION, "0 of 2 reports in a row") == (passed.state, passed.reason)
        assert [PROBATION, ROUTABLE] == [own(health, 4).state, own(health, 5).state]

    def test_own_not_serving_stands_however_well_checks_go(self):
        health = routable()
        health.report(said(NOT_SERVING, message="disk full"), 2)

        record = health.report(found(), 2.5)

        assert (DOWN, "not serving: disk full") == (record.state, record.reason)

    def test_silence_takes_them_down_however_well_checks_go(self):
        health = routable()
        for now in (2, 4, 6):
            health.report(found(), now)

        record = health.get(A)

        assert (DOWN, "no report for 5 s") == (record.state, record.reason)
        assert DOWN == health.report(found(), 7).state
        assert "no report for 5 s" == health.get(A).reason

    def test_a_lost_connection_takes_them_down_however_well_checks_go(self):
        health = routable()

        health.lost("grpc", A, "connection closed", 2)

        assert DOWN == health.get(A).state

    def test_failed_checks_count_for_the_black_list(self):
        health = routable()
        health.report(found(NOT_SERVING), 2)
        health.report(found(), 2.5)
        own(health, 3, 4)

        record = health.report(found(NOT_SERVING, message="refused"), 5)

        assert BLACKLISTED == record.state
        assert "black-listed after 2 failures, the last: probe: refused" == record.reason

    def test_a_check_that_fails_on_the_black_list_is_heeded_after_it(self):
        health = routable()
        for now in (2, 5):
            health.report(found(NOT_SERVING, message="refused"), now)
            health.report(found(), now + 0.5)
            own(health, now + 1, now + 2)
        health.report(found(NOT_SERVING, message="still refused"), 50)

        health.tick(66)

        assert (DOWN, "probe: still refused") == (health.get(A).state, health.get(A).reason)

    def test_a_failed_check_of_a_draining_node_is_no_failure(self):
        health = routable()
        health.drain(A, True, 2)

        assert 0 == health.report(found(NOT_SERVING), 3).failures


class TestConfiguredNodes:
    def test_wait_for_the_check_for_as_long_as_it_takes(self):
        health = make()

        record = health.add_static(Node(address=A), 0)
        health.tick(1000)

        assert (PROBATION, "waiting for probe") == (record.state, record.reason)
        assert record == health.get(A)
        assert health.next_deadline() is None

    def test_are_routable_once_the_check_passed(self):
        assert ROUTABLE == static().get(A).state

    def test_fall_and_return_with_the_check(self):
        health = static()

        failed = health.report(found(NOT_SERVING, message="HTTP status 500"), 1)
        passed = health.report(found(), 2)

        assert (DOWN, "probe: HTTP status 500", 0) == (
            failed.state,
            failed.reason,
            failed.failures,
        )
        assert ROUTABLE == passed.state

    def test_need_no_check_when_nothing_is_to_be_checked(self):
        health = make()
        health.add_static(Node(address=A), 0)

        health.lost("probe", A, "nothing to check", 1)

        assert (ROUTABLE, "configured") == (health.get(A).state, health.get(A).reason)


class TestSourcesThatGoOrHang:
    @pytest.mark.parametrize(("status", "state"), [(SERVING, ROUTABLE), (NOT_SERVING, DOWN)])
    def test_a_silent_check_keeps_its_last_word(self, status, state):
        health = static()
        health.report(found(status), 1)

        health.tick(10_000)

        assert state == health.get(A).state

    def test_a_check_that_is_no_longer_in_use_is_forgotten(self):
        health = static()
        health.report(found(NOT_SERVING), 1)

        health.use_checkers((), 2)

        assert ROUTABLE == health.get(A).state

    def test_a_node_that_reports_must_go_on_reporting_without_the_check(self):
        health = routable()
        health.report(found(NOT_SERVING), 2)

        health.use_checkers((), 2.5)

        assert [PROBATION, ROUTABLE] == [own(health, 3).state, own(health, 4).state]

    def test_a_new_check_takes_no_node_down_before_it_looked(self):
        health = routable()

        health.use_checkers(("probe", "consul"), 2)
        own(health, 2)

        assert ROUTABLE == health.get(A).state
        assert DOWN == health.report(found(NOT_SERVING, "consul"), 3).state

    def test_the_voice_of_a_source_that_is_no_longer_in_use_is_forgotten(self):
        health = routable()

        health.unused("grpc", 2)

        record = health.get(A)
        assert (DOWN, "no report: grpc is no longer in use") == (record.state, record.reason)
        assert 0 == record.failures

    def test_nodes_that_others_speak_for_stay(self):
        health = routable()
        for now in (2, 3):
            health.report(said(source="other"), now)

        health.unused("grpc", 3.5)

        assert ROUTABLE == health.get(A).state

    def test_a_source_that_says_nothing_of_a_node_takes_nothing_from_it(self):
        health = routable()
        before = health.get(A)

        health.unused("other", 2)

        assert before == health.get(A)


def test_a_check_brings_no_nodes():
    with pytest.raises(NoSuchNodeError, match=r"10\.0\.0\.1"):
        make().report(found(), 0)


def test_adopted_nodes_keep_their_state_until_the_check_says_otherwise():
    health = make()
    health.restore(routable().snapshot(2), 100)

    before = health.get(A).state
    passed = health.report(found(), 101)
    failed = health.report(found(NOT_SERVING), 102)

    assert [ROUTABLE, ROUTABLE, DOWN] == [before, passed.state, failed.state]


def test_an_adopted_node_that_passes_its_check_must_still_report():
    health = make()
    health.restore(routable().snapshot(2), 100)
    health.report(found(), 101)

    health.tick(105)

    assert DOWN == health.get(A).state


def test_a_configured_node_that_was_adopted_waits_for_no_check():
    health = make()
    health.restore(static().snapshot(2), 100)

    assert ROUTABLE == health.add_static(Node(address=A), 100).state


def test_every_source_is_quoted():
    health = make()
    health.report(said(LEAVING, message="bye"), 1)
    waiting = health.words(A, 3)
    health.report(found(NOT_SERVING, message="no\nanswer"), 4)

    words = health.words(A, 5)

    assert [("grpc", "shutting down", "bye", 2.0), ("probe", "waiting", "", 2.0)] == [
        (one.source, one.word, one.message, one.age_s) for one in waiting
    ]
    assert ("probe", "failed", "no answer", 1.0) == (
        words[1].source,
        words[1].word,
        words[1].message,
        words[1].age_s,
    )
    assert () == health.words(ip_address("10.9.9.9"), 5)


def test_a_finding_is_as_old_as_its_change():
    health = static()
    for now in (1, 2, 3):
        health.report(found(message=f"{now} ms"), now)

    assert [(3.0, "3 ms")] == [(one.age_s, one.message) for one in health.words(A, 3)]
