# SPDX-License-Identifier: Apache-2.0
"""What the clients of the demo do: no more in all than two cores carry beside the rest."""

from __future__ import annotations

from galelb.lab.hosts import Host, Plan
from galelb.lab.http_client import Target
from galelb.lab.jobs import CONNECT_TIMEOUT_S, READ_TIMEOUT_S, Downloads, Held, Job, Requests

__all__ = ["held_jobs", "steady_jobs", "targets_of"]

_FRESH, _KEPT, _DOWNLOADS, _HELD = 8, 4, 4, 200
"""Over all clients."""
_PAUSE_S = 0.02
_KEPT_PAUSE_S = 0.5
"""Seldom: one connection is one choice of a node, and the counts are to show the choices."""
_DOWNLOAD_SIZE, _DOWNLOAD_RATE = 1_250_000, 250_000
_HELD_EVERY_S = 0.5
_LONG_S = 3600.0
_PATIENT_S = 5.0
"""A SYN is repeated after 1 and after 3 seconds."""


def steady_jobs(plan: Plan) -> list[Job]:
    """Return what one client does from the beginning to the end."""
    targets, clients = targets_of(plan), plan.spec.clients
    connect_s, read_s = _patience(plan)
    return [
        Requests(
            targets=targets,
            fresh=max(1, _FRESH // clients),
            kept=max(1, _KEPT // clients),
            pause_s=_PAUSE_S,
            kept_pause_s=_KEPT_PAUSE_S,
            connect_timeout_s=connect_s,
            read_timeout_s=read_s,
        ),
        Downloads(
            targets=targets,
            parallel=max(1, _DOWNLOADS // clients),
            size=_DOWNLOAD_SIZE,
            rate=_DOWNLOAD_RATE,
            count=None,
            connect_timeout_s=connect_s,
            read_timeout_s=read_s,
        ),
    ]


def _patience(plan: Plan) -> tuple[float, float]:
    """Return time-outs: in a group those of people, who see a lost SYN as a second of delay."""
    if plan.spec.is_group:
        return _PATIENT_S, _PATIENT_S
    return CONNECT_TIMEOUT_S, READ_TIMEOUT_S


def held_jobs(plan: Plan) -> list[Job]:
    """Return what one client does besides while balancers come and go: it holds connections."""
    connections = max(1, _HELD // plan.spec.clients)
    return [
        Held(
            targets=targets_of(plan),
            connections=connections,
            duration_s=_LONG_S,
            every_s=_HELD_EVERY_S,
        )
    ]


def targets_of(plan: Plan, balancer: Host | None = None) -> tuple[Target, ...]:
    """Return where the web service is; of one balancer those that die with it."""
    return tuple(
        Target(vip.address, vip.port)
        for vip in plan.vips
        if vip.protocol == "tcp" and (balancer is None or vip.balancer == balancer.name)
    )
