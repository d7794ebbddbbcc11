# SPDX-License-Identifier: Apache-2.0
"""Counts at clients or their router by whom answers are sent: by nodes, or by a balancer."""

from __future__ import annotations

import json
import shutil

from galelb.lab.hosts import CLIENTS_PORT, PUBLIC, UDP_PORT, Host, Plan, Role
from galelb.lab.topology import nsenter, run_tool

__all__ = ["answers_of", "can_count", "count_answers"]

_COUNTERS = ("answers", "relayed")


def can_count() -> bool:
    """Whether nftables is installed, which counts."""
    return shutil.which("nft") is not None


def count_answers(plan: Plan) -> None:
    """Begin to count, by whose frames they are, what comes from services. Raises LabError."""
    macs = ", ".join(_mac(host) for host in plan.of(Role.BALANCER))
    ports = f"th sport {{ {CLIENTS_PORT}, {UDP_PORT} }}"
    rules = f"""
        table inet gale {{
            counter answers {{ }}
            counter relayed {{ }}
            chain seen {{
                type filter hook {_hook(plan)} priority 0;
                {ports} counter name "answers"
                ether saddr {{ {macs} }} {ports} counter name "relayed"
            }}
        }}"""
    for host in _observers(plan):
        _nft(host, "-f", "-", text=rules)


def answers_of(plan: Plan) -> dict[str, int]:
    """Return packets: all `answers`, and those `relayed` by a balancer. Raises LabError."""
    total = dict.fromkeys(_COUNTERS, 0)
    for host in _observers(plan):
        told = json.loads(_nft(host, "-j", "list", "counters", "table", "inet", "gale"))
        for one in told["nftables"]:
            if "counter" in one:
                total[one["counter"]["name"]] += one["counter"]["packets"]
    return total


def _observers(plan: Plan) -> tuple[Host, ...]:
    """Return who sees the frames of nodes and balancers: clients, or the router before them."""
    return plan.of(Role.ROUTER) or plan.of(Role.CLIENT)


def _hook(plan: Plan) -> str:
    return "forward" if plan.spec.has_router else "input"


def _mac(host: Host) -> str:
    device = next(link.device for link in host.links if link.network == PUBLIC)
    told = run_tool(["ip", "-n", host.namespace, "-json", "link", "show", "dev", device])
    return str(json.loads(told)[0]["address"])


def _nft(host: Host, *words: str, text: str = "") -> str:
    return run_tool(nsenter(host.namespace, ["nft", *words]), text)
