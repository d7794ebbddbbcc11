# SPDX-License-Identifier: Apache-2.0
"""An operator takes a node out of service on the node itself, and back."""

import json
import subprocess
import sys
from typing import Any

import trio

from galelb.lab.balancer_api import nodes
from galelb.lab.clients import run_load
from galelb.lab.hosts import Host
from galelb.lab.http_client import Target
from galelb.lab.jobs import Requests, Result
from galelb.lab.lab import kill_host, start_host
from galelb.lab.ready import node_addresses, wait_routable, wait_unused
from galelb.lab.session import open_lab
from galelb.lab.state import new_spec


async def ask(node: Host, *arguments: str) -> dict[str, Any]:
    """Run `galelb node ...` for a host's agent; returns what --json prints."""
    command = [sys.executable, "-m", "galelb", "node", *arguments, "--json"]
    command += ["--config", str(node.config)]
    done = await trio.run_process(command, capture_stdout=True)
    return dict(json.loads(done.stdout))


async def test_a_node_is_stopped_restarted_and_started_under_traffic() -> None:
    results: list[Result] = []
    stop = trio.Event()
    async with open_lab(new_spec(nodes=2)) as state:
        plan = state.plan
        (vip,) = plan.vips
        balancer, node, client = plan.host("lb1"), plan.host("node1"), plan.host("client1")
        jobs = [Requests(targets=(Target(vip.address, vip.port),), fresh=4, pause_s=0.02)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_load, client, jobs, results.append, stop)
            with trio.fail_after(60):
                while not {"node1", "node2"} <= {result.node for result in results}:
                    await trio.sleep(0.05)
            stopped = await ask(node, "stop")
            await wait_unused(state, node)
            # Requests that were under way when the table was written may still end there.
            await trio.sleep(1)
            before = len(results)
            while len(results) < before + 50:
                await trio.sleep(0.05)
            after_stop = results[before:]
            stop.set()
        addresses = node_addresses(plan, node)
        seen = [one for one in await nodes(balancer) if one["address"] in addresses]

        kill_host(state, node)
        start_host(state, node)
        with trio.fail_after(60):
            status = await _connected(node)
        still = [one for one in await nodes(balancer) if one["address"] in addresses]
        started = await ask(node, "start")
        await wait_routable(state)

    assert [result for result in results if result.error] == []
    assert {"node2"} == {result.node for result in after_stop}
    assert (stopped["status"], stopped["health"]) == ("stopped", "shutting down")
    assert [one["draining"] for one in stopped["balancers"]] == [True]
    assert [(one["draining"], one["failures"]) for one in seen] == [(True, 0)]
    assert ("stopped", stopped["stopped_at"]) == (status["status"], status["stopped_at"])
    assert [one["takes_new_flows"] for one in still] == [False]
    assert started["status"] == "running"


async def _connected(node: Host) -> dict[str, Any]:
    """Return the status of an agent that has just been started, once a balancer answers it."""
    while True:
        try:
            status = await ask(node, "status")
        except subprocess.CalledProcessError:
            status = {"balancers": []}  # it does not listen yet
        if any(one["connected"] for one in status["balancers"]):
            return status
        await trio.sleep(0.1)
