# SPDX-License-Identifier: Apache-2.0
"""A balancer is cut off from the others for a while, alive; the majority serves all clients.

GALELB_PARTITION_S=60 makes it the full case; see docs/reference/lab.md.
"""

import os
import time
from collections import Counter
from collections.abc import Iterable

import trio

from galelb.lab.balancer_api import peers
from galelb.lab.clients import background_load
from galelb.lab.demo_jobs import targets_of
from galelb.lab.group_ready import tables_of, wait_group
from galelb.lab.holders import find_holders, vips_of
from galelb.lab.hosts import CLIENTS_PORT, Host, Plan, Role
from galelb.lab.jobs import Held, Requests, Result
from galelb.lab.lab import kill_host
from galelb.lab.ready import wait_unused
from galelb.lab.session import open_lab
from galelb.lab.state import LabState, new_spec
from galelb.lab.topology import cut, heal

PARTITION_S = float(os.environ.get("GALELB_PARTITION_S", "10"))
EQUAL_AFTER_S = 5.0
_LOOK_AFTER_S = 5.0
"""Later the kernel gives up the neighbours that do not answer, and nodes with them."""
PATIENT_S = 5.0


def requests(plan: Plan) -> Requests:
    return Requests(
        targets=targets_of(plan),
        fresh=6,
        kept=4,
        pause_s=0.03,
        kept_pause_s=0.2,
        connect_timeout_s=PATIENT_S,
        read_timeout_s=PATIENT_S,
    )


def targets(vips: Iterable[str]) -> list[str]:
    return [f"{vip}:{CLIENTS_PORT}" for vip in vips]


def failures(results: list[Result], carried: list[str], began: float, was_cut: float) -> Counter:
    """Count what failed, except for what the lonely one carried at the cut and had told nobody of.

    Such a request is not on the side of those that go on: they cannot know its flow.
    """
    return Counter(
        f"{one.kind}: {one.error}"
        for one in results
        if one.error and not (one.target in carried and began - 1 <= one.start <= was_cut)
    )


def alone(held: dict[str, frozenset[str]]) -> bool:
    return all(len(names) == 1 for names in held.values())


async def standing(balancer: Host) -> str:
    return str((await peers(balancer))["group"]["standing"])


async def until_cut_off(balancer: Host) -> None:
    with trio.fail_after(30):
        while True:
            if await standing(balancer) == "cut off":
                return
            await trio.sleep(0.1)


async def tables(state: LabState) -> set[str]:
    return {await tables_of(balancer) for balancer in state.plan.of(Role.BALANCER)}


async def test_no_request_fails_on_the_side_of_the_majority_and_tables_heal() -> None:
    async with open_lab(new_spec(balancers=3)) as state:
        plan, client = state.plan, state.plan.host("client1")
        lonely, node = plan.host("lb3"), plan.host("node3")
        job = Held(targets=targets_of(plan), connections=100, duration_s=600, read_timeout_s=20)
        async with background_load(client, [job, requests(plan)]) as results:
            # Nobody can keep connections that were not shared yet.
            await trio.sleep(1)
            homes = await find_holders(plan)
            began = time.monotonic()
            cut(plan, lonely, silent=True)
            was_cut = time.monotonic()
            await until_cut_off(lonely)
            given_up = vips_of(await find_holders(plan), lonely)
            nodes_there = await tables_of(lonely)
            await trio.sleep(_LOOK_AFTER_S)
            kept = await tables_of(lonely)
            await trio.sleep(max(0.0, PARTITION_S - _LOOK_AFTER_S))
            heal(plan, lonely)
            healed = time.monotonic()
            with trio.fail_after(60):
                while await standing(lonely) != "quorate" or len(await tables(state)) > 1:
                    await trio.sleep(0.1)
                equal_after = time.monotonic() - healed
            await wait_group(state, homes)
            await trio.sleep(2)

    carried = targets(vips_of(homes, lonely))
    assert Counter() == failures(results, carried, began, was_cut)
    assert vips_of(homes, lonely), "the one that is cut off must have had something"
    assert frozenset() == given_up
    assert nodes_there == kept, "whoever is cut off takes no dead cable for dead nodes"
    assert equal_after < EQUAL_AFTER_S
    assert node.name in {one.node for one in results}


async def test_what_changed_meanwhile_is_in_all_tables_after_healing() -> None:
    async with open_lab(new_spec(balancers=3)) as state:
        plan = state.plan
        lonely, node = plan.host("lb1"), plan.host("node3")
        cut(plan, lonely, silent=True)
        await until_cut_off(lonely)
        before = await tables_of(lonely)
        kill_host(state, node)
        others = [one for one in plan.of(Role.BALANCER) if one is not lonely]
        with trio.fail_after(30):
            while before in {await tables_of(one) for one in others}:
                await trio.sleep(0.1)
        still = await tables_of(lonely)
        heal(plan, lonely)
        healed = time.monotonic()
        with trio.fail_after(60):
            await wait_unused(state, node)
            while await standing(lonely) != "quorate" or len(await tables(state)) > 1:
                await trio.sleep(0.1)
        equal_after = time.monotonic() - healed

    assert before == still
    assert equal_after < EQUAL_AFTER_S


async def test_of_a_pair_both_go_on() -> None:
    async with open_lab(new_spec(balancers=2)) as state:
        plan, client = state.plan, state.plan.host("client1")
        first, second = plan.of(Role.BALANCER)
        async with background_load(client, [requests(plan)]) as results:
            homes = await find_holders(plan)
            began = time.monotonic()
            cut(plan, first, silent=True)
            was_cut = time.monotonic()
            with trio.fail_after(30):
                while len(vips_of(await find_holders(plan), second)) < 2:
                    await trio.sleep(0.1)
            await trio.sleep(2)
            told = await standing(first), await standing(second)
            healed = time.monotonic()
            heal(plan, first)
            with trio.fail_after(60):
                while len(await tables(state)) > 1 or not alone(await find_holders(plan)):
                    await trio.sleep(0.1)
            settled = time.monotonic()
            await trio.sleep(2)

    assert told == ("quorate", "quorate")
    # Both have all addresses at the heal. Who gives one up had just made flows for it, and told
    # the other only of those that are older than the pause between two looks.
    moving = [one for one in results if healed <= one.start <= settled]
    others = [one for one in results if not healed <= one.start <= settled]
    assert Counter() == failures(others, targets(vips_of(homes, first)), began, was_cut)
    assert sum(bool(one.error) for one in moving) <= len(moving) / 20
