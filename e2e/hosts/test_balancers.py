# SPDX-License-Identifier: Apache-2.0
"""Balancers end and return while clients send requests; none of the requests fails."""

import time
from collections import Counter

import pytest
import trio

from e2e.hosts.model import Hosts, Machine
from e2e.hosts.traffic import KEPT, Answer, Traffic, traffic
from e2e.hosts.whole import (
    targets_of,
    view_of,
    vip_owners,
    wait_owners,
    wait_whole,
)

ENOUGH = 200
COPIED_S = 1.0
"""What connections need to be known to the group: nobody can keep those that are younger."""


async def one_with_a_vip(hosts: Hosts) -> Machine:
    for balancer in hosts.balancers:
        if (await view_of(balancer)).own_vips:
            return balancer
    raise AssertionError("no balancer has a VIP")


async def served(found: Traffic, targets: int) -> None:
    """Return once requests that begin from now on are answered, for each VIP."""
    since = time.monotonic()
    await found.until(
        "answers from every VIP",
        lambda: len({one.target for one in found.answers if good(one, since)}) == targets,
    )
    await found.more(ENOUGH, since)


def good(one: Answer, since: float) -> bool:
    return one.error is None and one.start >= since


async def test_a_balancer_that_is_stopped_is_not_missed_and_returns(hosts: Hosts) -> None:
    balancer = await one_with_a_vip(hosts)
    others = [one for one in hosts.balancers if one is not balancer]
    view = await view_of(balancer)
    targets, homes = targets_of(view.services), await vip_owners(balancer)
    async with traffic(hosts.client, targets) as found:
        await trio.sleep(COPIED_S)
        try:
            await balancer.stop_daemon()
            await wait_owners(
                others, "all VIPs are the others'", lambda vips: no_owner(vips, view.name)
            )
            await served(found, len(targets))
        finally:
            await balancer.start_daemon()
        await wait_whole(hosts)
        await wait_owners(hosts.balancers, "all VIPs are back", lambda vips: vips == homes)
        await served(found, len(targets))

    check(found)


def no_owner(vips: dict[str, str], name: str) -> bool:
    return all(owner and owner != name for owner in vips.values())


@pytest.mark.parametrize("way", ["restart_daemon", "kill_daemon"])
async def test_no_request_fails_while_balancers_are_restarted_one_after_the_other(
    hosts: Hosts, way: str
) -> None:
    view = await view_of(hosts.balancers[0])
    targets, homes = targets_of(view.services), await vip_owners(hosts.balancers[0])
    async with traffic(hosts.client, targets) as found:
        for balancer in hosts.balancers:
            await trio.sleep(COPIED_S)
            await getattr(balancer, way)()
            await wait_whole(hosts)
            await wait_owners(hosts.balancers, "all VIPs are back", lambda vips: vips == homes)
            await served(found, len(targets))

    check(found)


def check(found: Traffic) -> None:
    """No request failed, and enough of them were sent, on new connections and on old ones."""
    assert Counter() == found.failures()
    assert found.nodes().total() >= ENOUGH
    assert found.kept >= KEPT or found.unkept
