# SPDX-License-Identifier: Apache-2.0
"""Whether the balancers of a lab are one group: they see each other and their tables are equal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import trio

from galelb.errors import LabError
from galelb.lab.balancer_api import peers
from galelb.lab.holders import find_holders
from galelb.lab.hosts import Host, Role
from galelb.lab.http_client import FetchError
from galelb.lab.processes import tail
from galelb.lab.state import LabState

__all__ = ["WHOLE_TIMEOUT_S", "group_state", "tables_of", "unfinished_group", "wait_group"]

WHOLE_TIMEOUT_S = 45.0
"""Generous: a balancer that returns compiles its programs and copies all flows first."""

_POLL_S = 0.1


async def unfinished_group(state: LabState) -> list[str]:
    """Return what is missing until the balancers that run are one group; empty = nothing.

    Nothing is asked of those that are too few for a quorum.
    """
    plan = state.plan
    running = [one for one in plan.of(Role.BALANCER) if one.name in state.running]
    if not plan.spec.is_group or not _are_quorum(len(running), plan.spec.balancers):
        return []
    missing, digests = [], set()
    for balancer in running:
        try:
            group = (await peers(balancer))["group"] or {}
        except FetchError as error:
            missing.append(f"{balancer.name} does not answer ({error.cause})")
            continue
        missing += [f"{balancer.name} {what}" for what in _unfinished(group, len(running))]
        digests.add(group.get("tables_digest"))
    if len(digests) > 1 and not missing:
        missing.append("the balancers' tables differ")
    nodes = any(node.name in state.running for node in plan.of(Role.NODE))
    if nodes and not missing:
        # Without nodes nobody needs to announce them.
        held = await find_holders(plan)
        missing += [f"nobody has {vip}" for vip, names in held.items() if not names]
    return missing


async def wait_group(
    state: LabState,
    homes: Mapping[str, frozenset[str]] | None = None,
    timeout_s: float = WHOLE_TIMEOUT_S,
) -> None:
    """Return once the balancers that run are one group, with VIPs where `homes` says.

    Raises LabError that says what is missing when the time is over.
    """
    missing: list[str] = []
    with trio.move_on_after(timeout_s):
        while True:
            if not (missing := await unfinished_group(state) or await _away(state, homes)):
                return
            await trio.sleep(_POLL_S)
    running = [one for one in state.plan.of(Role.BALANCER) if one.name in state.running]
    views = [f"{one.name}: {await group_state(one)}" for one in running]
    logs = [f"--- {one.log}\n{tail(one.log)}" for one in running]
    raise LabError("\n".join([f"no whole group after {timeout_s:g} s:", *missing, *views, *logs]))


async def _away(state: LabState, homes: Mapping[str, frozenset[str]] | None) -> list[str]:
    if homes is None:
        return []
    held = await find_holders(state.plan)
    return [
        f"{vip} is at {_listed(held[vip])}, not at {_listed(names)}"
        for vip, names in homes.items()
        if held[vip] != names
    ]


def _listed(names: frozenset[str]) -> str:
    return " ".join(sorted(names)) or "nobody"


async def group_state(balancer: Host) -> str:
    """Return a balancer's view of its group in a line, for people."""
    try:
        answer = await peers(balancer)
    except FetchError as error:
        return f"does not answer ({error.cause})"
    group = answer["group"] or {}
    alive = [peer["name"] for peer in answer["peers"] if peer["alive"]]
    return f"{group.get('standing')}, ready: {group.get('ready')}, sees {', '.join(alive)}"


async def tables_of(balancer: Host) -> str:
    """Return the digest of a balancer's tables. Raises FetchError."""
    group = (await peers(balancer))["group"] or {}
    return str(group.get("tables_digest", ""))


def _are_quorum(alive: int, configured: int) -> bool:
    return alive > configured / 2 or configured <= 2


def _unfinished(group: dict[str, Any], running: int) -> list[str]:
    if not group:
        return ["is in no group"]
    if group["standing"] != "quorate":
        return [f"is {group['standing']}"]
    if group["alive"] < running:
        return [f"sees {group['alive']} of {running} balancers"]
    return [] if group["ready"] else ["may not have addresses yet"]
