# SPDX-License-Identifier: Apache-2.0
"""A node that died and returned grows to its share, and hardly a request notices."""

import os
import signal
from collections import Counter

import trio

from galelb.client import ApiClient
from galelb.lab.balancer_api import nodes
from galelb.lab.clients import run_load
from galelb.lab.http_client import Target
from galelb.lab.jobs import Requests, Result
from galelb.lab.lab import kill_host, start_host
from galelb.lab.ready import wait_routable, wait_unused
from galelb.lab.session import open_lab
from galelb.lab.state import new_spec

SLOW = '\n[node_health]\nslow_start = "3s"'


def events(balancer):
    with ApiClient(balancer.instance / "api.sock") as api:
        return api.get("events/recent", limit=1000)["events"]


async def wait_for(balancer, kind):
    """Return what happened until an event of this kind."""
    while True:
        found = await trio.to_thread.run_sync(events, balancer)
        if any(event["event"] == kind for event in found):
            return found
        await trio.sleep(0.05)


async def shares(balancer, name):
    """Return every share that a node has until it has all."""
    seen = [0]
    while seen[-1] < 100:
        (node,) = [one for one in await nodes(balancer) if one["name"] == name]
        if node["takes_new_flows"] and node["start_share"] != seen[-1]:
            seen.append(node["start_share"])
        await trio.sleep(0.02)
    return seen[1:]


async def test_a_node_that_returns_grows_to_its_share() -> None:
    results: list[Result] = []
    stop = trio.Event()
    async with open_lab(new_spec(plugin="l2_bridge")) as state:
        balancer, node = state.plan.host("lb1"), state.plan.host("node2")
        text = balancer.config.read_text().replace("\n[node_health]", SLOW)
        balancer.config.write_text(text)
        os.kill(state.processes["lb1"][0].pid, signal.SIGHUP)
        await wait_for(balancer, "config_reloaded")
        await trio.sleep(3)  # the others have to be warm to carry what it is spared
        kill_host(state, node)
        await wait_unused(state, node)
        (vip,) = state.plan.vips
        job = Requests(targets=(Target(vip.address, vip.port),), fresh=2, pause_s=0.02)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_load, state.plan.host("client1"), [job], results.append, stop)
            start_host(state, node)
            grown = await shares(balancer, "node2")
            await wait_routable(state)
            happened = await trio.to_thread.run_sync(events, balancer)
            stop.set()

    began = max(n for n, one in enumerate(happened) if one.get("old_state") == "probation")
    later = Counter(one["event"] for one in happened[began:])
    assert grown == sorted(grown)
    assert grown[-1] == 100
    assert later["node_weight"] == 1, "its slow start came to an end, so there was one"
    assert 1 <= later["table_changed"] <= 5
    # l2_bridge knows no connections: one that is open just when its slot moves is reset.
    assert {one.error for one in results} <= {None, "reset"}
    assert sum(bool(one.error) for one in results) <= later["table_changed"]
