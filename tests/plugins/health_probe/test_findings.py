# SPDX-License-Identifier: Apache-2.0
"""From results in a row to a word about a node; and which targets there are."""

from ipaddress import ip_address

import pytest
from galelb_plugins.health_probe.findings import Streak, Watched, finding
from galelb_plugins.health_probe.options import Probe
from galelb_plugins.health_probe.targets import Target, targets

from galelb.model import HealthStatus, Protocol
from galelb.sources import Reach

A, B = ip_address("10.0.0.1"), ip_address("10.0.0.2")


def results(streak, text):
    """Apply results, "+" good and "-" bad; return the findings after each."""
    return [(streak.add("" if one == "+" else "no answer"), streak.passed)[1] for one in text]


@pytest.mark.parametrize(
    ("text", "passed"),
    [
        ("+", None),
        ("++", True),
        ("-+", None),
        ("--", None),
        ("---", False),
        ("+-+", None),
        ("++--", True),
        ("++--+--", True),
        ("++---", False),
        ("---+", False),
        ("---+-+", False),
        ("---++", True),
    ],
)
def test_rise_and_fall(text, passed):
    assert passed is results(Streak(rise=2, fall=3), text)[-1]


def test_a_change_is_told_once():
    streak = Streak(rise=2, fall=3)

    told = [streak.add("" if one == "+" else "refused") for one in "++++----++"]

    assert [False, True, False, False, False, False, True, False, False, True] == told


def watched(passed, *services, reason="", hint=""):
    streak = Streak(2, 3, passed=passed, reason=reason)
    return Target(A, Probe(), 80, None), Watched(services, streak, hint)


def test_one_bad_target_is_enough():
    status, text = finding(
        [watched(True, "dns"), watched(False, "web", reason="no answer", hint=", lost")]
    )

    assert (HealthStatus.NOT_SERVING, "web: tcp 10.0.0.1:80: no answer, lost") == (status, text)


def test_more_bad_targets_are_counted():
    _, text = finding([watched(False, "web", reason="refused")] * 2 + [watched(True)])

    assert "web: tcp 10.0.0.1:80: refused; 2 of 3 checks failed" == text


def test_many_services_are_not_all_named():
    _, text = finding([watched(False, "a", "b", "c", "d", "e", reason="refused")])

    assert text.startswith("a, b, c and 2 more: ")


def test_all_targets_must_have_been_checked():
    assert finding([watched(True), watched(None)]) is None
    assert (HealthStatus.SERVING, "2 checks") == finding([watched(True), watched(True)])


def test_nothing_to_check_is_a_word_too():
    assert (None, "nothing to check") == finding([])


class TestTargets:
    def test_a_shared_port_is_checked_once(self, make_service):
        services = [make_service("web"), make_service("shop", vip="192.0.2.11")]

        found = targets([Probe()], services, [A], lambda *_: Reach.ADDRESS)

        assert {Target(A, Probe(), 80, None): ("web", "shop")} == found

    def test_each_vip_is_checked(self, make_service):
        services = [make_service("web"), make_service("shop", vip="192.0.2.11")]

        found = targets([Probe()], services, [A, B], lambda *_: Reach.VIP)

        assert 4 == len(found)
        assert {"tcp VIP 192.0.2.10:80", "tcp VIP 192.0.2.11:80"} == {
            target.describe() for target in found
        }

    def test_only_the_nodes_of_a_service_are_checked(self, make_service):
        def reach(_, node):
            return Reach.ADDRESS if node == A else Reach.NEVER

        assert [A] == [one.node for one in targets([Probe()], [make_service()], [A, B], reach)]

    def test_a_probe_may_be_for_some_services(self, make_service):
        probe = Probe(services=("shop",))
        services = [make_service("web"), make_service("shop", 81)]

        found = targets([probe], services, [A], lambda *_: Reach.ADDRESS)

        assert [81] == [target.port for target in found]

    def test_udp_services_need_a_port_to_check(self, make_service):
        dns = make_service("dns", 53, protocol=Protocol.UDP)

        found = targets([Probe(), Probe(port=8053)], [dns], [A], lambda *_: Reach.ADDRESS)

        assert [8053] == [target.port for target in found]

    def test_ports_are_those_of_the_nodes(self, make_service):
        service = make_service(target_port=8080)

        assert [8080] == [t.port for t in targets([Probe()], [service], [A], lambda *_: Reach.VIP)]

    def test_tagged_vips_are_not_checked(self, make_service):
        assert {} == targets([Probe()], [make_service(vlan=7)], [A], lambda *_: Reach.VIP)

    def test_vips_whose_answers_nobody_hears_are_checked_at_the_node(self, make_service):
        (target,) = targets([Probe()], [make_service()], [A], lambda *_: Reach.UNSEEN)

        assert target.service is None

    def test_the_authority_is_what_is_asked(self, make_service):
        six = make_service(vip="2001:db8::1", port=8080)
        (target,) = targets([Probe()], [six], [A], lambda *_: Reach.VIP)

        assert "[2001:db8::1]:8080" == target.authority
