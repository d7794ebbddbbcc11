# SPDX-License-Identifier: Apache-2.0
"""The owner of a VIP is lost while clients hold connections open; none of them breaks.

GALELB_CONNECTIONS=5000 makes it the full case; see docs/reference/lab.md.
"""

import os
import time
from collections import Counter
from collections.abc import Callable

import pytest
import trio

from galelb.lab.clients import background_load
from galelb.lab.demo_jobs import targets_of
from galelb.lab.group_ready import wait_group
from galelb.lab.holders import find_holders, vips_of
from galelb.lab.hosts import Host, Plan, Role
from galelb.lab.jobs import Downloads, Held, Job, Requests, Result
from galelb.lab.lab import kill_host, start_host
from galelb.lab.session import open_lab
from galelb.lab.state import LabState, new_spec
from galelb.lab.topology import cut, heal

CONNECTIONS = int(os.environ.get("GALELB_CONNECTIONS", "500"))
PATIENT_S = 5.0
LONGEST_STALL_S = {"l4_nat_etcd": 7.0}
"""By way, else 3 s: a lease of etcd is at least 2 s, and ends late."""
WAYS = {
    "l4_nat": {},
    "l4_nat_bgp": {"announce": "bgp"},
    "l4_nat_etcd": {"transport": "etcd"},
    "l4_nat_ipv6": {"ipv4": False, "ipv6": True},
    "l4_nat_dnat": {"options": (("mode", '"dnat"'),)},
    "l2_bridge": {"plugin": "l2_bridge"},
    "l3_route": {"plugin": "l3_route"},
    "l3_route_bgp": {"plugin": "l3_route", "announce": "bgp"},
}


def held(plan: Plan) -> Held:
    return Held(
        targets=targets_of(plan), connections=CONNECTIONS, duration_s=600, read_timeout_s=20
    )


def requests(plan: Plan) -> Requests:
    return Requests(
        targets=targets_of(plan),
        fresh=4,
        pause_s=0.05,
        connect_timeout_s=PATIENT_S,
        read_timeout_s=PATIENT_S,
    )


def failures(results: list[Result], kind: str, since: float = 0.0) -> Counter[str]:
    return Counter(
        str(one.error) for one in results if one.error and one.kind == kind and one.start >= since
    )


async def copied() -> None:
    """Give the youngest connections the time to be shared: nobody can keep those before."""
    await trio.sleep(1)


async def owner(state: LabState) -> Host:
    """Return a balancer that clients' packets reach."""
    held_vips = await find_holders(state.plan)
    return next(one for one in state.plan.of(Role.BALANCER) if vips_of(held_vips, one))


async def answered(results: list[Result], plan: Plan, since: float) -> None:
    """Return once each VIP has answered a request that began since then."""
    wanted = {str(target) for target in targets_of(plan)}
    with trio.fail_after(30):
        while True:
            fine = (one for one in results if one.kind == "request" and one.error is None)
            if wanted <= {one.target for one in fine if one.start >= since}:
                return
            await trio.sleep(0.1)


def lose_links_first(state: LabState, balancer: Host) -> None:
    cut(state.plan, balancer)
    kill_host(state, balancer)


def lose_daemon_first(state: LabState, balancer: Host) -> None:
    kill_host(state, balancer)
    cut(state.plan, balancer)


@pytest.mark.parametrize("way", WAYS)
async def test_the_loss_of_an_owner_breaks_nothing(way: str) -> None:
    jobs: list[Job]
    async with open_lab(new_spec(balancers=3, **WAYS[way])) as state:
        plan, client = state.plan, state.plan.host("client1")
        jobs = [held(plan), requests(plan)]
        async with background_load(client, jobs) as results:
            await copied()
            lost = await owner(state)
            lose_links_first(state, lost)
            since = time.monotonic()
            await answered(results, plan, since)
            await trio.sleep(2)

    assert Counter() == failures(results, "held")
    assert Counter() == failures(results, "request", since)
    assert sum(one.kind == "held" for one in results) == CONNECTIONS
    assert max(one.stall_s for one in results) < LONGEST_STALL_S.get(way, 3.0)


@pytest.mark.parametrize("lose", [lose_links_first, lose_daemon_first])
async def test_who_returns_gets_its_vips_back_and_breaks_nothing(
    lose: Callable[[LabState, Host], None],
) -> None:
    async with open_lab(new_spec(balancers=3)) as state:
        plan, client = state.plan, state.plan.host("client1")
        downloads = Downloads(
            targets=targets_of(plan), parallel=4, size=4_000_000, rate=200_000, count=None
        )
        async with background_load(client, [held(plan), requests(plan), downloads]) as results:
            await copied()
            lost = await owner(state)
            homes = await find_holders(plan)
            lose(state, lost)
            since = time.monotonic()
            await answered(results, plan, since)
            heal(plan, lost)
            start_host(state, lost)
            await wait_group(state, homes)
            await trio.sleep(2)
            await answered(results, plan, time.monotonic())

    assert Counter() == failures(results, "held")
    assert Counter() == failures(results, "request", since)
    assert Counter() == failures(results, "download")
    assert sum(one.kind == "held" for one in results) == CONNECTIONS
