# SPDX-License-Identifier: Apache-2.0
"""With l2_bridge nodes see the client itself, and answer it past the balancer."""

import json

import pytest
import trio

from galelb.lab.clients import collect
from galelb.lab.hosts import CLIENTS_PORT, UDP_PORT, Host, Role
from galelb.lab.http_client import Target
from galelb.lab.jobs import Downloads, Queries
from galelb.lab.processes import is_alive
from galelb.lab.session import open_lab
from galelb.lab.state import LabState, new_spec
from galelb.lab.topology import nsenter, run_tool

SIZE = 2_000_000
SHAPES = {
    "two_armed": {"udp": True},
    "one_armed": {"udp": True, "one_armed": True},
    "ipv6": {"udp": True, "ipv4": False, "ipv6": True},
}


def nft(host: Host, *words: str, text: str = "") -> str:
    return run_tool(nsenter(host.namespace, ["nft", *words]), text)


def mac(host: Host, device: str) -> str:
    told = run_tool(nsenter(host.namespace, ["ip", "-json", "link", "show", "dev", device]))
    return str(json.loads(told)[0]["address"])


def count_answers(state: LabState) -> None:
    """Count what comes to the client from services, by whose frame it is."""
    lb = mac(state.plan.host("lb1"), "pub0")
    ports = f"th sport {{ {CLIENTS_PORT}, {UDP_PORT} }}"
    rules = f"""
        table inet gale {{
            counter answers {{ }}
            counter relayed {{ }}
            chain input {{
                type filter hook input priority 0;
                {ports} counter name "answers"
                ether saddr {lb} {ports} counter name "relayed"
            }}
        }}"""
    nft(state.plan.host("client1"), "-f", "-", text=rules)


def counted(state: LabState) -> dict[str, int]:
    found = json.loads(nft(state.plan.host("client1"), "-j", "list", "counters"))["nftables"]
    counters = [one["counter"] for one in found if "counter" in one]
    return {one["name"]: one["packets"] for one in counters}


@pytest.mark.parametrize("shape", SHAPES)
async def test_answers_do_not_pass_the_balancer(shape: str) -> None:
    async with open_lab(new_spec(plugin="l2_bridge", **SHAPES[shape])) as state:
        plan, client = state.plan, state.plan.host("client1")
        count_answers(state)
        targets = {v.protocol: (Target(v.address, v.port),) for v in plan.vips}
        downloads = Downloads(targets=targets["tcp"], size=SIZE, count=9, parallel=3, rate=SIZE)
        results = await collect(client, [downloads])
        queries = await collect(client, [Queries(targets=targets["udp"], count=300)])
        counts = counted(state)

    assert [one.error for one in (*results, *queries) if one.error] == []
    assert {"node1", "node2", "node3"} == {one.node for one in queries}
    assert counts["answers"] > 300
    assert counts["relayed"] == 0


@pytest.mark.parametrize("shape", SHAPES)
async def test_nodes_see_the_client_s_own_address(shape: str) -> None:
    async with open_lab(new_spec(plugin="l2_bridge", **SHAPES[shape])) as state:
        client = state.plan.host("client1")
        vip = next(v for v in state.plan.vips if v.protocol == "tcp")
        host = f"[{vip.address}]" if ":" in vip.address else vip.address
        url = f"http://{host}:{vip.port}/"
        code = f"import urllib.request as u; print(u.urlopen({url!r}, timeout=5).read().decode())"
        seen = json.loads(run_tool(nsenter(client.namespace, ["python3", "-c", code])))

    assert seen["client"] in {str(address.ip) for address in client.addresses("public")}


async def test_a_node_that_leaves_gives_the_vip_back() -> None:
    async with open_lab(new_spec(plugin="l2_bridge")) as state:
        node = state.plan.of(Role.NODE)[0]
        vip = state.plan.vips[0].address
        before = run_tool(["ip", "-n", node.namespace, "address", "show", "dev", "lo"])
        agent = next(p for p in state.processes[node.name] if p.kind == "agent")
        run_tool(["kill", "-TERM", str(agent.pid)])
        with trio.fail_after(30):
            while is_alive(agent):
                await trio.sleep(0.05)
        after = run_tool(["ip", "-n", node.namespace, "address", "show", "dev", "lo"])
        record = node.directory / f"{node.name}.host.json"
        left = record.exists()

    assert f"{vip}/32" in before
    assert vip not in after
    assert not left
