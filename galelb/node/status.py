# SPDX-License-Identifier: Apache-2.0
"""Everything that an agent knows about its node, as a JSON object; the shape is documented."""

from __future__ import annotations

import datetime
import os
from importlib.metadata import version
from typing import Any

import attrs
import trio

from galelb.model import HealthStatus
from galelb.node.agent import NodeAgent
from galelb.node.client import BalancerClient
from galelb.node.health import CheckOutcome
from galelb.node.host_state import HostState
from galelb.node.wire import load, node_name

__all__ = ["status_json"]

Json = dict[str, Any]

_WORDS = {
    HealthStatus.SERVING: "serving",
    HealthStatus.NOT_SERVING: "not serving",
    HealthStatus.SHUTTING_DOWN: "shutting down",
}


def status_json(agent: NodeAgent) -> Json:
    """Return GET /v1/status, which changes are answered with, too."""
    now = trio.current_time()
    settings, health = agent.config.node, agent.health
    types = {check.name: check.type for check in agent.config.checks}
    return {
        # The two words of the original galeLB.
        "status": "stopped" if health.stopped else "running",
        "health": _WORDS[health.status],
        "reason": health.message,
        "stopped_at": _timestamp(agent.stopped_at),
        "name": node_name(settings),
        "version": version("galelb"),
        "pid": os.getpid(),
        "started_at": _timestamp(agent.started_at),
        "uptime_s": _ago(agent.began_at, now),
        "weight": settings.weight,
        "load": round(load(), 3),
        "services": list(settings.services),
        "checks": [_check_json(one, types[one.name], now) for one in health.outcomes()],
        "balancers": [_balancer_json(client, now) for client in agent.clients],
        "host": _host_json(agent.host.state(), health.lacks),
        "notes": [agent.unkept] if agent.unkept else [],
    }


def _check_json(check: CheckOutcome, kind: str, now: float) -> Json:
    return {
        "name": check.name,
        "type": kind,
        "passes": check.passes,
        "in_a_row": check.in_a_row,
        "ran_s": _ago(check.ran_at, now),
        "reason": check.why,
    }


def _balancer_json(client: BalancerClient, now: float) -> Json:
    standing, answer = client.standing, client.answer
    waits = standing.next_try_at
    return {
        "name": client.name,
        "connected": answer is not None,
        "address": None if standing.peer is None else str(standing.peer),
        "connected_s": _ago(standing.connected_at, now),
        "answered_s": _ago(standing.answered_at, now),
        "state": None if answer is None else answer.state,
        "draining": answer is not None and answer.draining,
        "message": "" if answer is None else answer.message,
        "error": standing.error,
        "error_s": _ago(standing.error_at, now),
        "next_try_s": None if waits is None else round(max(0.0, waits - now), 3),
    }


def _host_json(state: HostState, lacks: str) -> Json:
    wanted, record = state.wanted, state.record
    return {
        "configure": state.configure,
        "vips": sorted(map(str, wanted.served)),
        "tunnels": [
            {"vip": str(end.address), "port": end.port} for end in sorted(wanted.tunnels, key=str)
        ],
        "changed": {
            "vips": sorted(map(str, record.vips)),
            "sysctls": [attrs.asdict(one) for one in record.sysctls],
            "programs": [
                {"interface": one.interface, "mode": one.mode} for one in record.decapsulations
            ],
        },
        "tunnel_packets": dict(state.unpacked),
        "lacks": lacks,
        "mend": list(state.mend),
    }


def _ago(moment: float | None, now: float) -> float | None:
    return None if moment is None else round(now - moment, 3)


def _timestamp(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
