# SPDX-License-Identifier: Apache-2.0
"""How requests are made to pass a certain balancer."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from ipaddress import ip_address

import trio

from e2e.hosts.model import Client, CommandError, Hosts, HostsError, Machine
from e2e.hosts.whole import targets_of, view_of
from galelb.lab.http_client import Target

__all__ = ["through"]


@contextlib.asynccontextmanager
async def through(hosts: Hosts, balancer: Machine) -> AsyncIterator[tuple[Target, ...]]:
    """Give targets whose packets pass this balancer, during a block of code.

    They are the VIPs that it has. If it has none, the client gets routes to the others' VIPs by
    way of it: a balancer forwards what reaches it, whoever has the address.
    """
    view = await view_of(balancer)
    services = targets_of(view.services)
    if own := tuple(target for target in services if target.address in view.own_vips):
        yield own
        return
    async with contextlib.AsyncExitStack() as routes:
        for vip in {target.address for target in services}:
            gateway = await _neighbour(hosts.client, balancer, ip_address(vip).version)
            await routes.enter_async_context(_route(hosts.client, vip, gateway))
        yield services


@contextlib.asynccontextmanager
async def _route(client: Client, vip: str, gateway: str) -> AsyncIterator[None]:
    await client.run("ip", "route", "add", vip, "via", gateway)
    try:
        yield
    finally:
        with trio.CancelScope(shield=True):
            await client.run("ip", "route", "del", vip, "via", gateway)


async def _neighbour(client: Client, balancer: Machine, version: int) -> str:
    """Return an address of a balancer on a network that the client is on."""
    for address in sorted(await balancer.addresses()):
        if ip_address(address).version == version:
            with contextlib.suppress(CommandError):
                (route,) = json.loads(await client.run("ip", "-json", "route", "get", address))
                if "gateway" not in route:
                    return address
    raise HostsError(
        f"{balancer.name} has no VIP, and {client.name} is on no network with it: give the group "
        "as many VIPs as it has balancers, or name a host in group `client`"
    )
