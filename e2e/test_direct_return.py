# SPDX-License-Identifier: Apache-2.0
"""With l2_bridge and l3_route nodes see the client itself, and answer it past the balancer."""

from pathlib import Path
from typing import Any

import pytest
import trio

from galelb.lab.answers import answers_of, count_answers
from galelb.lab.clients import collect
from galelb.lab.hosts import Host, Role
from galelb.lab.http_client import Target
from galelb.lab.jobs import Downloads, Queries
from galelb.lab.lab import kill_host, start_host
from galelb.lab.mounts import mounts_below
from galelb.lab.processes import is_alive
from galelb.lab.ready import wait_routable, wait_unused
from galelb.lab.session import open_lab
from galelb.lab.state import new_spec
from galelb.lab.topology import nsenter, run_tool

SIZE = 2_000_000
IPV6: dict[str, Any] = {"ipv4": False, "ipv6": True}


def l3_route(encap: str, **values: Any) -> dict[str, Any]:
    return {"plugin": "l3_route", "options": (("encap", f'"{encap}"'),), **values}


SHAPES: dict[str, dict[str, Any]] = {
    "l2_bridge": {"plugin": "l2_bridge"},
    "l2_bridge_one_armed": {"plugin": "l2_bridge", "one_armed": True},
    "l2_bridge_ipv6": {"plugin": "l2_bridge", **IPV6},
    "ipip": l3_route("ipip", ipv6=True),
    "ipip_one_armed": l3_route("ipip", one_armed=True, ipv6=True),
    "ipip_6_in_4": l3_route("ipip", **IPV6, node_family="ipv4"),
    "ipip_4_in_6": l3_route("ipip", node_family="ipv6"),
    "gue": l3_route("gue", ipv6=True),
    "gue_6_in_4": l3_route("gue", **IPV6, node_family="ipv4"),
    "gue_4_in_6": l3_route("gue", node_family="ipv6"),
    "none": l3_route("none", ipv6=True),
}


def host_state(node: Host) -> str:
    """Everything that the agent changes on a node."""
    commands = [["ip", "address"], ["ip", "link"]]
    commands += [["ethtool", "-k", link.device] for link in node.links]
    commands += [["sysctl", "-a", "-r", r"conf\..*\.(arp_|rp_|disable_ipv6)"]]
    told = [run_tool(nsenter(node.namespace, command)) for command in commands]
    return "\n".join(line for line in "".join(told).splitlines() if "_lft" not in line)


def traces(node: Host) -> list[Path]:
    """What the agent has on disk and mounted."""
    left = list(node.directory.glob(f"{node.name}.host*"))
    return left + [one for one in mounts_below(node.directory) if node.name in str(one)]


@pytest.mark.parametrize("shape", SHAPES)
async def test_answers_do_not_pass_the_balancer(shape: str) -> None:
    async with open_lab(new_spec(udp=True, **SHAPES[shape])) as state:
        plan, client = state.plan, state.plan.host("client1")
        count_answers(plan)
        targets: dict[str, tuple[Target, ...]] = {"tcp": (), "udp": ()}
        for vip in plan.vips:
            targets[vip.protocol] += (Target(vip.address, vip.port),)
        jobs = [
            Downloads(targets=targets["tcp"], size=SIZE, count=8, parallel=4, rate=2 * SIZE),
            Queries(targets=targets["udp"], count=300),
        ]
        results = await collect(client, jobs)
        counts = answers_of(plan)

    assert [one.error for one in results if one.error] == []
    assert {"node1", "node2", "node3"} == {one.node for one in results if one.kind == "query"}
    assert {True} == {one.seen_as_itself for one in results if one.kind == "download"}
    assert counts["answers"] > 300
    assert counts["relayed"] == 0


LEAVING = {
    "l2_bridge": {"plugin": "l2_bridge"},
    "ipip": l3_route("ipip"),
    "gue_6_in_4": SHAPES["gue_6_in_4"],
}


@pytest.mark.parametrize("shape", LEAVING)
async def test_a_node_that_dies_returns_and_leaves_gives_all_back(shape: str) -> None:
    async with open_lab(new_spec(**LEAVING[shape])) as state:
        node, client = state.plan.of(Role.NODE)[0], state.plan.host("client1")
        vip = state.plan.vips[0]
        during = host_state(node)
        kill_host(state, node)
        await wait_unused(state, node)
        orphaned = host_state(node)
        start_host(state, node)
        await wait_routable(state)
        returned = host_state(node)
        target = (Target(vip.address, vip.port),)
        results = await collect(client, [Downloads(targets=target, size=SIZE, count=6, parallel=3)])
        agent = next(p for p in state.processes[node.name] if p.kind == "agent")
        run_tool(["kill", "-TERM", str(agent.pid)])
        with trio.fail_after(30):
            while is_alive(agent):
                await trio.sleep(0.05)
        after, left = host_state(node), traces(node)

    assert vip.address in during
    assert during == orphaned == returned, "the kernel needs no agent to serve"
    assert [one.error for one in results if one.error] == []
    assert vip.address not in after
    assert "xdp" not in after
    assert left == []
