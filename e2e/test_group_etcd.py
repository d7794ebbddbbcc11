# SPDX-License-Identifier: Apache-2.0
"""A group over etcd loses a balancer, and then etcd itself; clients notice neither."""

import time
from collections import Counter

import trio

from galelb.lab.balancer_api import status
from galelb.lab.clients import background_load
from galelb.lab.demo_jobs import targets_of
from galelb.lab.group_ready import wait_group
from galelb.lab.holders import find_holders, vips_of
from galelb.lab.hosts import Host, Plan, Role
from galelb.lab.jobs import Held, Requests
from galelb.lab.lab import kill_host, start_host
from galelb.lab.ready import wait_routable, wait_unused
from galelb.lab.session import open_lab
from galelb.lab.state import LabState, new_spec
from galelb.lab.topology import cut

PATIENT_S = 8.0
"""Longer than a takeover over etcd takes."""
AWAY_S = 10.0
"""More than three leases: each would have ended in an etcd that runs."""


def load(plan: Plan) -> list[Held | Requests]:
    targets = targets_of(plan)
    patient = {"connect_timeout_s": PATIENT_S, "read_timeout_s": PATIENT_S}
    return [
        Held(targets=targets, connections=100, duration_s=600, read_timeout_s=20),
        Requests(targets=targets, fresh=4, pause_s=0.05, **patient),
    ]


async def until_told(balancers: list[Host], *, lost: bool) -> None:
    """Return once `galelb status` says on each of them that etcd is lost, or nothing of it."""
    with trio.fail_after(30):
        for balancer in balancers:
            while lost != ("etcd cannot be used" in str((await status(balancer))["notes"])):
                await trio.sleep(0.1)


async def lose_an_owner(state: LabState) -> Host:
    held = await find_holders(state.plan)
    lost = next(one for one in state.plan.of(Role.BALANCER) if vips_of(held, one))
    cut(state.plan, lost)
    kill_host(state, lost)
    with trio.fail_after(30):
        while held.keys() != (now := await find_holders(state.plan)).keys() or any(
            now[vip] == frozenset() or lost.name in now[vip] for vip in held
        ):
            await trio.sleep(0.1)
    return lost


async def test_the_loss_of_an_owner_breaks_no_connection() -> None:
    async with open_lab(new_spec(balancers=3, transport="etcd")) as state:
        client = state.plan.host("client1")
        async with background_load(client, load(state.plan)) as results:
            # Nobody can keep connections that were not shared yet.
            await trio.sleep(1)
            await lose_an_owner(state)
            await trio.sleep(2)

    assert Counter() == Counter(one.error for one in results if one.error and one.kind == "held")
    assert sum(one.kind == "held" for one in results) == 100


async def test_all_goes_on_without_etcd_and_heals_by_itself() -> None:
    async with open_lab(new_spec(balancers=3, transport="etcd")) as state:
        plan, client, etcd = state.plan, state.plan.host("client1"), state.plan.host("etcd")
        balancers, node = list(plan.of(Role.BALANCER)), plan.host("node3")
        homes = await find_holders(plan)
        moved: list[object] = []

        async def watch() -> None:
            while True:
                now = await find_holders(plan)
                if now != homes:
                    moved.append(now)
                await trio.sleep(0.2)

        async with background_load(client, load(plan)[:1]) as held, trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            await trio.sleep(1)
            kill_host(state, etcd)
            since = time.monotonic()
            await until_told(balancers, lost=True)
            # Each balancer finds by itself that a node died.
            kill_host(state, node)
            with trio.fail_after(30):
                await wait_unused(state, node)
            await trio.sleep(max(0.0, since + AWAY_S - time.monotonic()))
            async with background_load(client, load(plan)[1:]) as requests:
                await trio.sleep(2)
            start_host(state, etcd)
            await until_told(balancers, lost=False)
            start_host(state, node)
            await wait_routable(state)
            await wait_group(state, homes)
            # A death that etcd told late would be known by now.
            await trio.sleep(3)
            nursery.cancel_scope.cancel()

    assert moved == []
    lost_with_node = [one for one in held if one.error and one.node != node.name]
    assert Counter() == Counter(one.error for one in lost_with_node)
    assert Counter() == Counter(one.error for one in requests if one.error)
    assert len(requests) > 20
