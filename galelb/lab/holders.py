# SPDX-License-Identifier: Apache-2.0
"""Who has a group's VIPs: as the kernels of the lab's hosts see it, not as balancers tell it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import trio

from galelb.lab.hosts import PUBLIC, Host, Plan, Role
from galelb.lab.topology import run_tool

__all__ = ["find_holders", "holders", "vips_of"]


def holders(plan: Plan) -> dict[str, frozenset[str]]:
    """Return, for each VIP, the names of the balancers that packets to it may reach.

    With a router those that it has routes to, else those that have the address on an interface.
    Blocks for some milliseconds a host. Raises LabError.
    """
    found: dict[str, set[str]] = {vip.address: set() for vip in plan.vips}
    for address, balancer in _routes(plan) if plan.spec.has_router else _addresses(plan):
        if address in found:
            found[address].add(balancer)
    return {address: frozenset(names) for address, names in found.items()}


async def find_holders(plan: Plan) -> dict[str, frozenset[str]]:
    """Return `holders` without blocking."""
    return await trio.to_thread.run_sync(holders, plan)


def vips_of(held: dict[str, frozenset[str]], balancer: Host) -> frozenset[str]:
    """Return the VIPs that a balancer has."""
    return frozenset(vip for vip, names in held.items() if balancer.name in names)


def _addresses(plan: Plan) -> Iterator[tuple[str, str]]:
    for balancer in plan.of(Role.BALANCER):
        for link in _ip(balancer, "address", "show"):
            for address in link.get("addr_info", ()):
                yield address["local"], balancer.name


def _routes(plan: Plan) -> Iterator[tuple[str, str]]:
    (router,) = plan.of(Role.ROUTER)
    names = {
        str(address.ip): balancer.name
        for balancer in plan.of(Role.BALANCER)
        for address in balancer.addresses(PUBLIC)
    }
    for family in ("-4", "-6"):
        for route in _ip(router, family, "route", "show", "proto", "bird"):
            for hop in route.get("nexthops", [route]):
                if hop.get("gateway") in names:
                    yield route["dst"], names[hop["gateway"]]


def _ip(host: Host, *words: str) -> list[dict[str, Any]]:
    return list(json.loads(run_tool(["ip", "-n", host.namespace, "-json", *words]) or "[]"))
