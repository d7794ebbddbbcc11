# SPDX-License-Identifier: Apache-2.0
"""What the messages of the wire mean: reports, answers and the configuration for nodes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from google.protobuf.message import DecodeError

from galelb.grpc.framing import CallError, StatusCode
from galelb.grpc.health_pb2 import ConfigResponse
from galelb.grpc.health_pb2 import HealthStatus as Wire
from galelb.grpc.health_pb2 import NodeSetup as WireSetup
from galelb.health import HealthSettings
from galelb.model import HealthReport, HealthStatus, IPAddress, NodeRecord, NodeSetup, NodeState

__all__ = [
    "GET_CONFIG",
    "REPORT",
    "SOURCE",
    "answer_to",
    "config_for_nodes",
    "config_version",
    "report_from",
]

SOURCE = "health_grpc"
GET_CONFIG = "/LBNodeManager/GetConfig"
REPORT = "/LBNodeManager/ReportHealthStatus"
_MAX_NAME = 63
_NS_PER_S = 1_000_000_000


def report_from(payload: bytes, address: IPAddress) -> HealthReport:
    """Return the report in a message of the node at `address`.

    Raises:
        CallError: INVALID_ARGUMENT, it is no report.
    """
    try:
        wire = Wire.FromString(payload)
        status = HealthStatus(wire.status)
    except DecodeError:
        text = "the message is not a HealthStatus"
        raise CallError(StatusCode.INVALID_ARGUMENT, text) from None
    except ValueError:
        text = "status must be 0 (serving), 1 (not serving) or 2 (shutting down)"
        raise CallError(StatusCode.INVALID_ARGUMENT, text) from None
    return HealthReport(
        source=SOURCE,
        address=address,
        status=status,
        message=wire.message,
        name=wire.name[:_MAX_NAME],
        weight=wire.weight if wire.HasField("weight") else None,
        load=wire.load if wire.HasField("load") else None,
        service=wire.service[:_MAX_NAME],
    )


def answer_to(report: HealthReport, record: NodeRecord, version: str = "") -> bytes:
    """Return the balancer's view of a node as a message, in the fields of a report."""
    if record.draining:
        status = HealthStatus.SHUTTING_DOWN
    elif record.state is NodeState.ROUTABLE:
        status = HealthStatus.SERVING
    else:
        status = HealthStatus.NOT_SERVING
    wire = Wire(
        service=report.service,
        status=status,
        message=f"{record.state}: {record.reason}" if record.reason else str(record.state),
        name=record.node.name,
        weight=record.weight,
        state=str(record.state),
        config_version=version,
    )
    return bytes(wire.SerializeToString())


def config_version(setups: Sequence[NodeSetup]) -> str:
    """Return what identifies these setups; empty for none."""
    text = "\n".join(f"{setup.kind} {setup.vip} {setup.port}" for setup in setups)
    return hashlib.sha256(text.encode()).hexdigest()[:16] if text else ""


def config_for_nodes(settings: HealthSettings, setups: Sequence[NodeSetup] = ()) -> bytes:
    """Return what `GetConfig` answers."""
    wire = ConfigResponse(
        checks_before_routing=settings.checks_before_routing,
        health_check_timeout=round(settings.checks_timeout * _NS_PER_S),
        black_list_after_fails=settings.black_list_after_fails,
        black_list_expiry=round(settings.black_list_expiry * _NS_PER_S),
        setups=[WireSetup(kind=one.kind, vip=str(one.vip), port=one.port) for one in setups],
        version=config_version(setups),
    )
    return bytes(wire.SerializeToString())
