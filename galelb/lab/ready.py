# SPDX-License-Identifier: Apache-2.0
"""Starts a lab and waits until it works: balancers answer, nodes are routable, requests pass."""

from __future__ import annotations

import trio

from galelb.errors import LabError
from galelb.lab.balancer_api import nodes_in_use
from galelb.lab.clients import collect
from galelb.lab.group_ready import unfinished_group
from galelb.lab.hosts import Host, Plan, Role
from galelb.lab.http_client import FetchError, Target
from galelb.lab.jobs import Job, Queries, Requests
from galelb.lab.lab import start_host
from galelb.lab.processes import is_alive, tail
from galelb.lab.state import LabState

__all__ = ["READY_TIMEOUT_S", "node_addresses", "start_lab", "wait_routable", "wait_unused"]

READY_TIMEOUT_S = 30.0
"""Generous: a slow machine compiles and starts a dozen Python processes at once."""

_POLL_S = 0.1


async def start_lab(state: LabState, timeout_s: float = READY_TIMEOUT_S) -> None:
    """Start every host and return once a request to every VIP is answered.

    LabError, with the end of the logs, when a process ends or the time is over.
    """
    plan = state.plan
    # Balancers first: a node that finds none waits longer after each attempt.
    for roles in ((Role.ROUTER, Role.ETCD, Role.BALANCER), (Role.NODE,)):
        for host in plan.of(*roles):
            start_host(state, host)
        await wait_routable(state, timeout_s)
    jobs: list[Job] = [
        Requests(targets=(target,), fresh=1, count=1)
        if vip.protocol == "tcp"
        else Queries(targets=(target,), count=1, parallel=1)
        for vip in plan.vips
        for target in (Target(vip.address, vip.port),)
    ]
    results = await collect(plan.of(Role.CLIENT)[0], jobs)
    if failed := [f"{item.target}: {item.error}" for item in results if item.error]:
        raise LabError(f"a first request failed: {', '.join(failed)}\n{_logs(plan.hosts)}")


async def wait_routable(state: LabState, timeout_s: float = READY_TIMEOUT_S) -> None:
    """Return once every balancer that runs gives new flows to every node that runs."""
    missing = ["nothing was asked yet"]
    with trio.move_on_after(timeout_s):
        while True:
            _check_processes(state)
            if not (missing := await _missing(state)):
                return
            await trio.sleep(_POLL_S)
    hosts = [host for host in state.plan.hosts if host.role is not Role.CLIENT]
    raise LabError(f"not ready after {timeout_s:g} s: {'; '.join(missing)}\n{_logs(hosts)}")


async def is_unused(state: LabState, node: Host) -> bool:
    """Whether every balancer that runs gives no new flows to the node."""
    addresses = node_addresses(state.plan, node)
    for balancer in state.plan.of(Role.BALANCER):
        if balancer.name not in state.running:
            continue
        try:
            used = await nodes_in_use(balancer)
        except FetchError:
            return False
        if addresses & used.routable or max(used.in_tables, default=0) > len(used.routable):
            return False
    return True


async def wait_unused(state: LabState, node: Host) -> None:
    """Return once no balancer gives new flows to the node."""
    while True:
        if await is_unused(state, node):
            return
        await trio.sleep(_POLL_S / 2)


def node_addresses(plan: Plan, node: Host) -> frozenset[str]:
    """Return the addresses under which balancers know a node."""
    return frozenset(str(address.ip) for address in node.addresses(plan.private))


async def _missing(state: LabState) -> list[str]:
    plan, running = state.plan, state.running
    nodes = [node for node in plan.of(Role.NODE) if node.name in running]
    missing: list[str] = []
    for balancer in plan.of(Role.BALANCER):
        if balancer.name in running:
            missing += [
                f"{balancer.name} {what}" for what in await _unfinished(balancer, plan, nodes)
            ]
    return missing or await unfinished_group(state)


async def _unfinished(balancer: Host, plan: Plan, nodes: list[Host]) -> list[str]:
    try:
        used = await nodes_in_use(balancer)
    except FetchError as error:
        return [f"does not answer ({error.cause})"]
    unused = [node.name for node in nodes if not node_addresses(plan, node) <= used.routable]
    if not unused and min(used.in_tables, default=0) < len(nodes):
        return ["has not written its tables"]
    return [f"does not use {name}" for name in unused]


def _check_processes(state: LabState) -> None:
    for name, processes in state.processes.items():
        ended = [process.kind for process in processes if not is_alive(process)]
        if ended:
            host = state.plan.host(name)
            raise LabError(f"{name}: the {ended[0]} process ended\n{_logs([host])}")


def _logs(hosts: list[Host] | tuple[Host, ...]) -> str:
    ends = [(host.log, tail(host.log)) for host in hosts]
    return "\n".join(f"--- {log}\n{text}" for log, text in ends if text)
