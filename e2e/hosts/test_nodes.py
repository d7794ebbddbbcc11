# SPDX-License-Identifier: Apache-2.0
"""Nodes leave and return: by the operator's word, with their agent, and by failing."""

import contextlib
import time
import tomllib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import trio

from e2e.hosts.model import CommandError, Hosts, Machine
from e2e.hosts.traffic import Traffic, traffic
from e2e.hosts.whole import PATIENCE_S, as_seen, targets_of, view_of, wait_node, wait_whole
from galelb.durations import parse_duration

ENOUGH = 150
"""Requests, of which each node gets some."""
UNDER_WAY_S = 1.0
"""Requests that were under way when a table was written may still end where it sent them."""
LOOK_S = 0.3
RATE, KEPT = 50.0, 0


@contextlib.asynccontextmanager
async def requests(hosts: Hosts) -> AsyncIterator[Traffic]:
    services = (await view_of(hosts.balancers[0])).services
    async with traffic(hosts.client, targets_of(services), rate=RATE, kept=KEPT) as found:
        yield found


async def answering(found: Traffic) -> set[str]:
    """Return who answers requests from now on."""
    await trio.sleep(UNDER_WAY_S)
    since = time.monotonic()
    await found.more(ENOUGH, since)
    return set(found.nodes(since))


async def names(machines: Sequence[Machine]) -> set[str]:
    return {await one.answers_as() for one in machines}


def unused(seen: dict[str, Any]) -> bool:
    return not seen["takes_new_flows"]


async def test_a_node_that_its_operator_stops_gets_nothing_until_it_is_started(
    hosts: Hosts,
) -> None:
    node, *others = hosts.nodes
    async with requests(hosts) as found:
        try:
            stopped = await node.ask("node", "stop")
            seen = await wait_node(hosts, node, "unused", unused, PATIENCE_S)
            while_stopped = await answering(found)
            await node.restart_daemon()
            after_restart = await connected(node)
            still = await answering(found)
        finally:
            started = await node.ask("node", "start")
        await wait_whole(hosts)
        afterwards = await answering(found)

    assert Counter() == found.failures()
    assert await names(others) == while_stopped == still
    assert await names([node, *others]) == afterwards
    assert (stopped["status"], stopped["health"]) == ("stopped", "shutting down")
    assert all(one["draining"] for one in stopped["balancers"]), stopped
    assert [(True, 0)] * len(seen) == [(one["draining"], one["failures"]) for one in seen]
    assert ("stopped", stopped["stopped_at"]) == (
        after_restart["status"],
        after_restart["stopped_at"],
    )
    assert started["status"] == "running"


async def connected(node: Machine) -> dict[str, Any]:
    """Return the status of an agent that has just been started, once a balancer answers it."""
    with trio.fail_after(PATIENCE_S):
        while True:
            with contextlib.suppress(CommandError):  # it does not listen yet
                status = await node.ask("node", "status")
                if any(one["connected"] for one in status["balancers"]):
                    return dict(status)
            await trio.sleep(0.2)


async def test_a_node_whose_agent_ends_gets_nothing_until_it_runs_again(hosts: Hosts) -> None:
    node, *others = hosts.nodes
    async with requests(hosts) as found:
        try:
            await node.stop_daemon()
            await wait_node(hosts, node, "unused", unused, PATIENCE_S)
            without = await answering(found)
        finally:
            await node.start_daemon()
        await wait_whole(hosts)
        afterwards = await answering(found)

    assert Counter() == found.failures()
    assert await names(others) == without
    assert await names([node, *others]) == afterwards


@pytest.mark.timeout(1800)  # as long as the configuration keeps nodes blacklisted
async def test_a_node_that_fails_too_often_is_blacklisted_and_returns(hosts: Hosts) -> None:
    node, *others = hosts.nodes
    fails, expiry_s = await blacklisting(hosts.balancers[0])
    async with requests(hosts) as found:
        for _ in range(2 * fails):
            if any(map(blacklisted, await fail_once(hosts, node))):
                break
        await wait_node(hosts, node, "blacklisted", blacklisted, PATIENCE_S)
        since = time.monotonic() + UNDER_WAY_S
        until = await last_blacklisted(hosts, node)
        await wait_node(hosts, node, "unblacklisted", used, expiry_s + PATIENCE_S)
        await wait_whole(hosts)
        afterwards = await answering(found)

    assert Counter() == found.failures()
    assert await names(others) == set(found.nodes(since, until))
    assert await names([node, *others]) == afterwards


async def last_blacklisted(hosts: Hosts, node: Machine) -> float:
    """Return when the last look began that found the node blacklisted everywhere."""
    last = time.monotonic()
    while True:
        begin = time.monotonic()
        if not all(map(blacklisted, await as_seen(hosts, node))):
            return last
        last = begin
        await trio.sleep(LOOK_S)


async def fail_once(hosts: Hosts, node: Machine) -> list[dict[str, Any]]:
    """Kill the agent, and return how the balancers see the node once it is used again, or never.

    The fall itself may be over before anybody looks, but it is counted.
    """
    before = await wait_node(hosts, node, "used", used, PATIENCE_S)
    counts = {one["failures"] for one in before}
    await node.kill_daemon()

    def fell(seen: dict[str, Any]) -> bool:
        return seen["failures"] > min(counts) or blacklisted(seen)

    await wait_node(hosts, node, "fallen", fell, PATIENCE_S)
    return await wait_node(hosts, node, "judged", judged, PATIENCE_S)


def judged(seen: dict[str, Any]) -> bool:
    return bool(seen["takes_new_flows"]) or blacklisted(seen)


def blacklisted(seen: dict[str, Any]) -> bool:
    return bool(seen["state"] == "blacklisted")


def used(seen: dict[str, Any]) -> bool:
    return bool(seen["takes_new_flows"])


async def blacklisting(balancer: Machine) -> tuple[int, float]:
    """Return after how many failures a balancer blacklists a node, and for how long."""
    health = tomllib.loads(await balancer.run(*balancer.galelb("check")))["node_health"]
    if health["black_list_after_fails"] < 0:
        pytest.skip("these balancers blacklist no node")
    return health["black_list_after_fails"], parse_duration(health["black_list_expiry"])
