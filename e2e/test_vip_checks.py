# SPDX-License-Identifier: Apache-2.0
"""A node that answers at its own address but not at the VIP gets no clients."""

import signal
from typing import Any

import pytest
import trio

from galelb.lab.balancer_api import nodes
from galelb.lab.hosts import Host, Role
from galelb.lab.ready import wait_routable
from galelb.lab.session import open_lab
from galelb.lab.state import LabState, new_spec
from galelb.lab.topology import nsenter, run_tool

PROBES = """
[[plugins.health_probe.probes]]
type = "http"
path = "/health"
interval = "200ms"
"""
SHAPES: dict[str, dict[str, Any]] = {
    "l2_bridge": {"plugin": "l2_bridge"},
    "l2_bridge_one_armed": {"plugin": "l2_bridge", "one_armed": True},
    "ipip": {"plugin": "l3_route", "options": (("encap", '"ipip"'),)},
    "gue": {"plugin": "l3_route", "options": (("encap", '"gue"'),)},
    "none": {"plugin": "l3_route", "options": (("encap", '"none"'),)},
}


async def use_probes(state: LabState, balancer: Host) -> None:
    """Let a balancer that runs check its nodes, by a reload, until it has found all well."""
    config = balancer.config
    assert config is not None
    text = config.read_text()
    sources = 'sources = ["health_grpc", "health_probe"]'
    config.write_text(text.replace("[node_health]", f"[node_health]\n{sources}") + PROBES)
    for process in state.processes[balancer.name]:
        run_tool(["kill", f"-{signal.SIGHUP.value}", str(process.pid)])
    while not all(word_of(one) == "passed" for one in await nodes(balancer)):
        await trio.sleep(0.05)


def word_of(node: dict[str, Any]) -> str:
    """Return what health_probe says of a node."""
    return next((w["word"] for w in node["health"] if w["source"] == "health_probe"), "")


async def fallen(balancer: Host, node: Host) -> list[str]:
    """Return why the balancer gives a node no clients, for each of its addresses that are down."""
    mine = [one for one in await nodes(balancer) if one["name"] == node.name]
    return [one["reason"] for one in mine if one["state"] == "down"]


async def take_vip(node: Host, vip: str, balancer: Host) -> list[str]:
    """Remove a VIP until the balancer has noticed, and return what it says.

    Again and again, because the node's agent puts it back.
    """
    while not (reasons := await fallen(balancer, node)):
        if vip in run_tool(nsenter(node.namespace, ["ip", "addr", "show", "dev", "lo"])):
            length = 128 if ":" in vip else 32
            command = ["ip", "addr", "del", f"{vip}/{length}", "dev", "lo"]
            run_tool(nsenter(node.namespace, command))
        await trio.sleep(0.05)
    return reasons


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_node_without_a_vip_leaves_and_returns_with_it(shape: str) -> None:
    reasons: dict[str, list[str]] = {}
    async with open_lab(new_spec(nodes=2, ipv6=True, **SHAPES[shape])) as state:
        balancer, node = state.plan.host("lb1"), state.plan.of(Role.NODE)[0]
        with trio.fail_after(60):
            await use_probes(state, balancer)
        for vip in state.plan.vips:
            with trio.fail_after(60):
                reasons[vip.address] = await take_vip(node, vip.address, balancer)
            await wait_routable(state)

    assert len(reasons) == 2
    for vip, told in reasons.items():
        for reason in told:
            assert reason.startswith("health_probe: ")
            assert vip in reason
            assert "no answer within 0.2 s" in reason


async def test_a_reload_without_probes_lets_the_nodes_word_stand() -> None:
    async with open_lab(new_spec(plugin="l4_nat", nodes=2)) as state:
        balancer = state.plan.host("lb1")
        config = balancer.config
        assert config is not None
        before = config.read_text()
        with trio.fail_after(60):
            await use_probes(state, balancer)
            config.write_text(before)
            for process in state.processes[balancer.name]:
                run_tool(["kill", f"-{signal.SIGHUP.value}", str(process.pid)])
            while any(word_of(one) for one in await nodes(balancer)):
                await trio.sleep(0.05)
        await wait_routable(state)
