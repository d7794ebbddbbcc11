# SPDX-License-Identifier: Apache-2.0
"""A thousand connections stay open for a minute while another node comes and goes."""

from collections import Counter

import trio

from galelb.lab.clients import run_load
from galelb.lab.http_client import Target
from galelb.lab.jobs import Held, Result
from galelb.lab.lab import kill_host, start_host
from galelb.lab.ready import wait_routable, wait_unused
from galelb.lab.session import open_lab
from galelb.lab.state import LabState, new_spec

CONNECTIONS = 1000
DURATION_S = 60.0


async def come_and_go(state: LabState) -> None:
    """Start and kill a node until cancelled, once all connections are surely open."""
    node = state.plan.host("node4")
    await trio.sleep(DURATION_S / 6)
    while True:
        start_host(state, node)
        await wait_routable(state)
        await trio.sleep(1)
        kill_host(state, node)
        await wait_unused(state, node)


async def test_held_connections_survive_changes_of_other_nodes() -> None:
    results: list[Result] = []
    async with open_lab(new_spec(nodes=4)) as state:
        # Nobody can hold a connection through a node that dies, so it is dead at first.
        kill_host(state, state.plan.host("node4"))
        await wait_unused(state, state.plan.host("node4"))
        (vip,) = state.plan.vips
        job = Held(
            targets=(Target(vip.address, vip.port),),
            connections=CONNECTIONS,
            duration_s=DURATION_S,
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(come_and_go, state)
            await run_load(state.plan.host("client1"), [job], results.append, trio.Event())
            nursery.cancel_scope.cancel()

    held = [result for result in results if result.kind == "held"]
    assert Counter() == Counter(result.error for result in held if result.error)
    assert len(held) == CONNECTIONS
    assert {"node1", "node2", "node3"} == {result.node for result in held}
