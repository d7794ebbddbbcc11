# SPDX-License-Identifier: Apache-2.0
"""What the group says of nodes goes over what this balancer sees itself."""

import json
from ipaddress import ip_address

import pytest

from galelb.health import HealthSettings, NodeHealth
from galelb.model import HealthReport, HealthStatus, Node, NodeState

A, B = ip_address("10.0.0.1"), ip_address("10.0.0.2")
MAC = "02:00:00:00:00:01"


def report(health, now, address=A, status=HealthStatus.SERVING):
    return health.report(HealthReport(source="grpc", address=address, status=status), now)


@pytest.fixture
def health():
    """A is routable, B is unknown."""
    registry = NodeHealth(HealthSettings(checks_before_routing=1, checks_timeout=5.0))
    report(registry, 0.0)
    registry.set_neighbour(A, MAC, 0.0)
    registry.take_changes()
    return registry


def test_the_groups_word_decides_what_tables_may_name(health):
    health.agree({A: False}, 1.0)
    record = health.get(A)

    assert NodeState.ROUTABLE is record.state
    assert not record.takes_new_flows
    assert "the group takes it for down" in record.reason
    assert [(None, False)] == [(old.group, new.group) for old, new in health.take_changes()]

    health.agree({}, 2.0)

    assert health.get(A).takes_new_flows


def test_a_node_that_only_this_balancer_misses_stays(health):
    report(health, 1.0, status=HealthStatus.NOT_SERVING)
    health.agree({A: True}, 1.0)

    record = health.get(A)
    assert NodeState.DOWN is record.state
    assert record.takes_new_flows
    assert "not serving; the group takes it for routable" == record.reason


def test_the_same_word_again_is_no_change(health):
    health.agree({A: True}, 1.0)
    health.take_changes()
    health.agree({A: True}, 2.0)

    assert [] == health.take_changes()


def test_a_stranger_gets_traffic_by_the_groups_word_alone(health):
    health.add_stranger(Node(address=B, name="far", weight=3), 1.0)
    health.set_neighbour(B, MAC, 1.0)

    assert not health.heard(B)
    assert not health.get(B).takes_new_flows

    health.agree({B: True}, 1.0)

    assert health.get(B).takes_new_flows
    assert 3 == health.get(B).weight


def test_a_stranger_that_reports_is_none_any_more(health):
    health.add_stranger(Node(address=B, name="far"), 1.0)
    report(health, 2.0, address=B)
    health.add_stranger(Node(address=B, name="other", weight=9), 3.0)

    assert health.heard(B)
    assert "far" == health.get(B).node.name


def test_what_peers_say_of_a_stranger_is_followed(health):
    health.add_stranger(Node(address=B, name="far"), 1.0)
    health.add_stranger(Node(address=B, name="far", weight=9), 2.0)

    assert 9 == health.get(B).weight


def test_a_full_registry_takes_no_strangers():
    health = NodeHealth(HealthSettings(), max_nodes=1)
    report(health, 0.0)
    health.add_stranger(Node(address=B), 1.0)

    assert health.get(B) is None


def test_a_restart_keeps_the_groups_word_until_there_is_another(health):
    health.add_stranger(Node(address=B, name="far"), 1.0)
    health.agree({A: False, B: True}, 1.0)
    saved = json.loads(json.dumps(health.snapshot(2.0)))
    later = NodeHealth(HealthSettings())
    later.restore(saved, 0.0)

    assert [False, True] == [later.get(one).group for one in (A, B)]
    assert [True, False] == [later.heard(one) for one in (A, B)]


def test_versions_before_said_nothing_of_a_group(health):
    saved = health.snapshot(2.0)
    for entry in saved:
        del entry["group"], entry["heard"]
    later = NodeHealth(HealthSettings())
    later.restore(saved, 0.0)

    assert later.get(A).group is None
    assert later.heard(A)
