# SPDX-License-Identifier: Apache-2.0
"""What messages mean."""

from ipaddress import ip_address

import attrs
import hypothesis.strategies as st
import pytest
from galelb_plugins.health_grpc.protocol import (
    answer_to,
    config_for_nodes,
    config_version,
    report_from,
)
from hypothesis import given

from galelb.grpc.framing import CallError, StatusCode
from galelb.grpc.health_pb2 import ConfigResponse
from galelb.grpc.health_pb2 import HealthStatus as Wire
from galelb.health import HealthSettings
from galelb.model import HealthReport, HealthStatus, Node, NodeRecord, NodeSetup, NodeState

A = ip_address("10.0.0.1")
RECORD = NodeRecord(
    node=Node(address=A, name="web", weight=3), state=NodeState.ROUTABLE, reason="serving"
)
REPORT = HealthReport(source="health_grpc", address=A, status=HealthStatus.SERVING, service="s")


def test_a_report_of_the_original():
    payload = Wire(service="web", status=1, message="disk full").SerializeToString()

    assert HealthReport(
        source="health_grpc",
        address=A,
        status=HealthStatus.NOT_SERVING,
        message="disk full",
        service="web",
    ) == report_from(payload, A)


def test_a_report_of_ours():
    payload = Wire(name="web-1", weight=0).SerializeToString()

    report = report_from(payload, A)

    assert ("web-1", 0) == (report.name, report.weight)


def test_an_empty_message_is_serving():
    assert HealthStatus.SERVING == report_from(b"", A).status


def test_long_names_are_cut():
    payload = Wire(name="n" * 500, service="s" * 500).SerializeToString()

    report = report_from(payload, A)

    assert (63, 63) == (len(report.name), len(report.service))


@given(payload=st.binary(max_size=200))
def test_any_bytes_are_a_report_or_refused(payload):
    try:
        code = report_from(payload, A) and StatusCode.OK
    except CallError as error:
        code = error.code

    assert code in (StatusCode.OK, StatusCode.INVALID_ARGUMENT)


@pytest.mark.parametrize(
    ("changes", "status", "message"),
    [
        ({}, 0, "routable: serving"),
        ({"draining": True}, 2, "routable: serving"),
        ({"state": NodeState.DOWN, "reason": "no report"}, 1, "down: no report"),
        ({"state": NodeState.PROBATION, "reason": ""}, 1, "probation"),
        ({"state": NodeState.DOWN, "reason": "x", "draining": True}, 2, "down: x"),
    ],
)
def test_an_answer_has_the_same_fields(changes, status, message):
    wire = Wire.FromString(answer_to(REPORT, attrs.evolve(RECORD, **changes)))

    assert ("s", status, message) == (wire.service, wire.status, wire.message)
    assert ("web", 3) == (wire.name, wire.weight)


def test_the_configuration_for_nodes_is_in_nanoseconds():
    wire = ConfigResponse.FromString(
        config_for_nodes(HealthSettings(checks_timeout=1.5, black_list_after_fails=-1))
    )

    assert (3, 1_500_000_000, -1, 300_000_000_000) == (
        wire.checks_before_routing,
        wire.health_check_timeout,
        wire.black_list_after_fails,
        wire.black_list_expiry,
    )


def test_nodes_are_told_what_they_must_be_set_up_for():
    vip = ip_address("192.0.2.1")
    setups = (
        NodeSetup(kind="vip_on_lo", vip=vip),
        NodeSetup(kind="decap_gue", vip=vip, port=6080),
    )
    wire = ConfigResponse.FromString(config_for_nodes(HealthSettings(), setups))

    assert [("vip_on_lo", "192.0.2.1", 0), ("decap_gue", "192.0.2.1", 6080)] == [
        (one.kind, one.vip, one.port) for one in wire.setups
    ]
    assert config_version(setups) == wire.version != ""


def test_an_answer_says_when_the_configuration_is_another_one():
    wire = Wire.FromString(answer_to(REPORT, RECORD, "abc"))

    assert "abc" == wire.config_version


def test_without_setups_there_is_no_version():
    assert "" == config_version(())


def test_another_port_is_another_version():
    vip = ip_address("192.0.2.1")
    versions = {config_version([NodeSetup(kind="decap_gue", vip=vip, port=p)]) for p in (1, 2)}

    assert 2 == len(versions)
