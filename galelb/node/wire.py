# SPDX-License-Identifier: Apache-2.0
"""The messages of a node: reports to a balancer, and what it advises and answers."""

from __future__ import annotations

import os
from typing import TypeVar

import attrs
from google.protobuf.message import DecodeError

from galelb.config.node import NodeSettings
from galelb.grpc.framing import CallError, StatusCode
from galelb.grpc.health_pb2 import ConfigResponse, HealthStatus
from galelb.model import HealthStatus as Status
from galelb.model import IPAddress, NodeState

__all__ = [
    "DECAP_GUE",
    "DECAP_IPIP",
    "GET_CONFIG",
    "REPORT",
    "VIP_ON_LO",
    "Advice",
    "Answer",
    "Setup",
    "encode_report",
    "load",
    "node_name",
]

# Kinds of set-up, see health.proto.
VIP_ON_LO = "vip_on_lo"
DECAP_IPIP = "decap_ipip"
DECAP_GUE = "decap_gue"

GET_CONFIG = "/LBNodeManager/GetConfig"
REPORT = "/LBNodeManager/ReportHealthStatus"

_Wire = TypeVar("_Wire", ConfigResponse, HealthStatus)
_NS_PER_S = 1_000_000_000
_SHORTEST_TIMEOUT_S = 0.2
"""A balancer that asks for more haste than this is not believed."""
_REPORTS_PER_TIMEOUT = 3
"""One late or lost report must not make a node time out; at least two are required."""
_JOINING_REPORTS_PER_TIMEOUT = 10
"""Until it is routable a node reports faster, because reports in a row are what it needs."""


_MOST_SETUPS = 1024
"""A balancer that asks for more is not heard to the end."""


@attrs.frozen
class Setup:
    """What a balancer's forwarder needs of this node, as it was said."""

    kind: str
    vip: str
    port: int = 0


@attrs.frozen(kw_only=True)
class Advice:
    """What a balancer wants of its nodes; seconds."""

    checks_timeout: float
    setups: tuple[Setup, ...] = ()
    version: str = ""
    source: IPAddress | None = None
    """The address of the balancer that gave it, if known: its tunnels come the way to there."""

    @classmethod
    def decode(cls, payload: bytes, source: IPAddress | None = None) -> Advice:
        """Return the advice in the answer to GetConfig. Raises CallError."""
        wire = _decoded(ConfigResponse, payload)
        timeout = wire.health_check_timeout / _NS_PER_S
        return cls(
            checks_timeout=max(_SHORTEST_TIMEOUT_S, timeout),
            setups=tuple(Setup(one.kind, one.vip, one.port) for one in wire.setups[:_MOST_SETUPS]),
            version=wire.version,
            source=source,
        )

    def period(self, *, joining: bool) -> float:
        """Return the time between two reports."""
        count = _JOINING_REPORTS_PER_TIMEOUT if joining else _REPORTS_PER_TIMEOUT
        return self.checks_timeout / count


@attrs.frozen(kw_only=True)
class Answer:
    """A balancer's view of this node."""

    status: int
    state: str
    message: str
    config_version: str = ""
    """Another one than that of the advice: there is new advice."""

    @classmethod
    def decode(cls, payload: bytes) -> Answer:
        """Return the answer to a report. Raises CallError."""
        wire = _decoded(HealthStatus, payload)
        return cls(
            status=wire.status,
            state=wire.state,
            message=wire.message[:200],
            config_version=wire.config_version,
        )

    @property
    def joining(self) -> bool:
        """Whether reports in a row would bring the node nearer to traffic."""
        return self.state in (NodeState.PROBATION, NodeState.DOWN)

    @property
    def draining(self) -> bool:
        """Whether the balancer sends no new flows because the node is leaving or drained."""
        return self.status == Status.SHUTTING_DOWN


def node_name(settings: NodeSettings) -> str:
    """Return the node's name in its reports."""
    return settings.name or os.uname().nodename[:63]


def load() -> float:
    """Return the runnable tasks per processor, as of the last minute."""
    return os.getloadavg()[0] / (os.cpu_count() or 1)


def encode_report(settings: NodeSettings, status: Status, message: str) -> bytes:
    """Return a report as a message."""
    wire = HealthStatus(
        status=int(status),
        message=message[:200],
        name=node_name(settings),
        weight=settings.weight,
        load=load(),
        services=settings.services,
    )
    return bytes(wire.SerializeToString())


def _decoded(kind: type[_Wire], payload: bytes) -> _Wire:
    try:
        wire: _Wire = kind.FromString(payload)
    except DecodeError:
        text = f"the answer of the balancer is not a {kind.__name__}"
        raise CallError(StatusCode.INTERNAL, text) from None
    return wire
