# SPDX-License-Identifier: Apache-2.0
"""All instances are up, and requests go through every balancer to every node."""

import pytest
import trio

from e2e.hosts.model import Hosts, Machine
from e2e.hosts.paths import through
from e2e.hosts.traffic import ask
from e2e.hosts.whole import view_of, wait_whole

REQUESTS = 300


async def missing(node: Machine, patience_s: float) -> str:
    """Return what a node's agent lacks when it had that long to get it: nothing."""
    told, lacks = {}, True
    with trio.move_on_after(patience_s):
        while lacks:
            # A balancer that was started last is dialled again within seconds, not at once.
            told = await node.ask("node", "status")
            lost = [one["name"] for one in told["balancers"] if not one["connected"]]
            if lacks := told["health"] != "serving" or bool(lost):
                await trio.sleep(0.2)
    return f"{node.name}: {told}" if lacks else ""


async def test_all_instances_are_up(all_hosts: Hosts, pytestconfig: pytest.Config) -> None:
    patience_s = pytestconfig.getoption("--patience")
    await wait_whole(all_hosts, patience_s)
    for node in all_hosts.nodes:
        assert await missing(node, patience_s) == ""


async def test_requests_pass_every_balancer_and_reach_every_node(hosts: Hosts) -> None:
    names = {await node.answers_as() for node in hosts.nodes}
    for balancer in hosts.balancers:
        before = (await view_of(balancer)).services
        async with through(hosts, balancer) as targets:
            found = await ask(hosts.client, targets, REQUESTS)
        after = (await view_of(balancer)).services
        carried = sum(one["packets"] for one in after) - sum(one["packets"] for one in before)

        assert not found.failures(), balancer.name
        assert found.nodes().total() == REQUESTS, balancer.name
        assert names == set(found.nodes()), balancer.name
        # A request is some packets towards the node, and all of them passed this balancer.
        assert carried >= 3 * REQUESTS, balancer.name
