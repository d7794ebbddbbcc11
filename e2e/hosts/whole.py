# SPDX-License-Identifier: Apache-2.0
"""What is missing until all instances work: as each balancer tells it, in sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs
import trio

from e2e.hosts.model import CommandError, Hosts, HostsError, Machine
from galelb.lab.http_client import Target

__all__ = [
    "PATIENCE_S",
    "View",
    "as_seen",
    "targets_of",
    "unfinished",
    "view_of",
    "vip_owners",
    "wait_node",
    "wait_owners",
    "wait_whole",
]

PATIENCE_S = 90.0
"""Generous: balancers that start at once compile their programs on slow machines."""

_POLL_S = 0.3

Json = dict[str, Any]


@attrs.frozen(kw_only=True)
class View:
    """What a balancer says."""

    status: Json
    peers: Json
    nodes: list[Json]
    services: list[Json]

    @property
    def name(self) -> str:
        """What its group calls it; empty for a lone one."""
        return str(self.peers["group"]["name"]) if self.peers["group"] else ""

    @property
    def own_vips(self) -> frozenset[str]:
        """VIPs whose packets come to it."""
        vips = {service["vip"] for service in self.services}
        if not self.peers["group"]:
            return frozenset(vips)
        owners = self.peers["group"]["vips"]
        return frozenset(vip for vip in vips if owners.get(vip, self.name) in {self.name, "all"})


async def view_of(balancer: Machine) -> View:
    """Ask a balancer all that there is to ask. Raises CommandError."""
    told: dict[str, Json] = {}
    errors: list[CommandError] = []

    async def ask(what: str) -> None:
        try:
            told[what] = await balancer.ask(what)
        except CommandError as error:
            errors.append(error)

    async with trio.open_nursery() as nursery:
        for what in ("status", "peers", "nodes", "services"):
            nursery.start_soon(ask, what)
    if errors:
        raise errors[0]
    return View(
        status=told["status"],
        peers=told["peers"],
        nodes=told["nodes"]["nodes"],
        services=told["services"]["services"],
    )


def targets_of(services: Sequence[Json]) -> tuple[Target, ...]:
    """Return where requests can be sent."""
    return tuple(Target(one["vip"], one["port"]) for one in services if one["protocol"] == "tcp")


async def unfinished(hosts: Hosts) -> list[str]:
    """Return what is missing until every balancer uses every node; empty = nothing."""
    addresses = {node.name: await node.addresses() for node in hosts.nodes}
    found: dict[str, list[str]] = {}

    async def look(balancer: Machine) -> None:
        try:
            view = await view_of(balancer)
        except CommandError as error:
            found[balancer.name] = [f"does not answer: {error}"]
        else:
            found[balancer.name] = list(_missing(view, addresses, len(hosts.balancers)))

    async with trio.open_nursery() as nursery:
        for balancer in hosts.balancers:
            nursery.start_soon(look, balancer)
    return [f"{one.name} {what}" for one in hosts.balancers for what in found[one.name]]


async def wait_whole(hosts: Hosts, timeout_s: float = PATIENCE_S) -> None:
    """Return once nothing is missing; HostsError says what is, with the ends of the logs."""
    missing = ["nothing was asked yet"]
    with trio.move_on_after(timeout_s):
        while missing := await unfinished(hosts):
            await trio.sleep(_POLL_S)
        return
    logs = [f"--- {one.name}\n{await one.log()}" for one in hosts.machines]
    raise HostsError("\n".join([f"after {timeout_s:g} s:", *missing, *logs]))


async def as_seen(hosts: Hosts, node: Machine) -> list[Json]:
    """Return what each balancer makes of a node; {} from one that does not know it."""
    addresses = await node.addresses()
    seen: dict[str, Json] = {}

    async def look(balancer: Machine) -> None:
        nodes = (await balancer.ask("nodes"))["nodes"]
        seen[balancer.name] = next((one for one in nodes if one["address"] in addresses), {})

    async with trio.open_nursery() as nursery:
        for balancer in hosts.balancers:
            nursery.start_soon(look, balancer)
    return [seen[balancer.name] for balancer in hosts.balancers]


async def wait_node(
    hosts: Hosts, node: Machine, what: str, holds: Callable[[Json], bool], timeout_s: float
) -> list[Json]:
    """Return how the balancers see a node once `holds` is true of what each of them says of it.

    HostsError says `what` did not come true, and what they say instead.
    """
    seen: list[Json] = []
    with trio.move_on_after(timeout_s):
        while True:
            seen = await as_seen(hosts, node)
            if all(one and holds(one) for one in seen):
                return seen
            await trio.sleep(_POLL_S)
    raise HostsError(f"{node.name} is not {what} everywhere after {timeout_s:g} s: {seen}")


async def vip_owners(balancer: Machine) -> dict[str, str]:
    """Return who has each VIP, as a balancer sees it; empty for a lone one."""
    group = (await balancer.ask("peers"))["group"]
    return dict(group["vips"]) if group else {}


async def wait_owners(
    balancers: Sequence[Machine], what: str, holds: Callable[[dict[str, str]], bool]
) -> None:
    """Return once `holds` is true of the owners of the VIPs as each of these balancers sees them.

    HostsError says `what` did not come true, and who has them instead.
    """
    owners: list[dict[str, str]] = []
    with trio.move_on_after(PATIENCE_S):
        while True:
            owners = [await vip_owners(one) for one in balancers]
            if all(map(holds, owners)):
                return
            await trio.sleep(_POLL_S)
    raise HostsError(f"{what}: not after {PATIENCE_S:g} s, but {owners}")


def _missing(view: View, nodes: dict[str, frozenset[str]], balancers: int) -> Iterator[str]:
    if not view.status["ready"]:
        yield f"is not ready: {view.status['not_ready_reason']}"
    if view.peers["group"]:
        yield from _missing_in_group(view.peers, balancers)
    unused = list(_unused(view.nodes, nodes))
    yield from unused
    if not unused:
        for service in view.services:
            if not service["nodes"] and service["routable_nodes"] < len(nodes):
                yield f"has {service['routable_nodes']} nodes in the table of {service['name']}"


def _missing_in_group(peers: Json, balancers: int) -> Iterator[str]:
    group = peers["group"]
    if group["standing"] != "quorate":
        yield f"is {group['standing']} in its group"
    if group["alive"] < balancers:
        yield f"sees {group['alive']} of {balancers} balancers"
    for peer in peers["peers"]:
        if peer["alive"] and peer["same_config"] is False:
            yield f"has another configuration than {peer['name']}"
        if peer["alive"] and peer["same_tables"] is not True:
            yield f"has not the tables of {peer['name']}"
    for vip, owner in group["vips"].items():
        if not owner:
            yield f"says that nobody has {vip}"


def _unused(seen: Sequence[Json], nodes: dict[str, frozenset[str]]) -> Iterator[str]:
    for name, addresses in nodes.items():
        records = [one for one in seen if one["address"] in addresses]
        if not records:
            yield f"does not know {name}"
        for one in records:
            if not one["takes_new_flows"]:
                drains = ", draining" if one["draining"] else ""
                yield f"does not use {name}: {one['state']}{drains} ({one['reason']})"
