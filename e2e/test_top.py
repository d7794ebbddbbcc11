# SPDX-License-Identifier: Apache-2.0
"""`galelb top` beside real traffic: it flows, a node dies, and both are to be seen."""

import re
import sys

import trio

from galelb.lab.clients import run_load
from galelb.lab.http_client import Target
from galelb.lab.jobs import Requests, Result
from galelb.lab.lab import kill_host
from galelb.lab.ready import wait_unused
from galelb.lab.session import open_lab
from galelb.lab.state import LabState, new_spec

NODE = re.compile(r"(node\d) +(\w+) +(\d+) +(\S+)/s +(\S+)bit/s")


async def picture(state: LabState) -> list[str]:
    """Return the lines of `galelb top --once`."""
    config = str(state.plan.host("lb1").config)
    command = [sys.executable, "-m", "galelb", "top", "--once", "--config", config]
    done = await trio.run_process(command, capture_stdout=True)
    return done.stdout.decode().splitlines()


def rates(lines: list[str]) -> dict[str, tuple[str, bool]]:
    """Return each node's state, and whether it has traffic."""
    found = (NODE.match(line) for line in lines)
    return {m[1]: (m[2], m[4] != "0") for m in found if m is not None}


async def test_traffic_and_a_death_are_seen() -> None:
    results: list[Result] = []
    stop = trio.Event()
    async with open_lab(new_spec(nodes=2)) as state:
        (vip,) = state.plan.vips
        node, client = state.plan.host("node2"), state.plan.host("client1")
        jobs = [Requests(targets=(Target(vip.address, vip.port),), fresh=4, pause_s=0.01)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_load, client, jobs, results.append, stop)
            while not {"node1", "node2"} <= {result.node for result in results}:
                await trio.sleep(0.05)
            before = await picture(state)
            kill_host(state, node)
            await wait_unused(state, node)
            after = await picture(state)
            stop.set()

    assert before[0] == "Forwarding", before
    assert rates(before) == {"node1": ("routable", True), "node2": ("routable", True)}, before
    assert rates(after)["node1"] == ("routable", True), after
    assert rates(after)["node2"][0] in {"down", "probation"}, after
    assert any(re.search(r"node2: routable -> down", line) for line in after), after
    assert any(re.search(r"default: new table, [\d.]+% moved", line) for line in after), after
