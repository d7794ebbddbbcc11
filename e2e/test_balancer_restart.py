# SPDX-License-Identifier: Apache-2.0
"""A balancer's daemon dies and returns; its kernel side forwards all the while."""

import trio

from galelb.lab.balancer_api import status
from galelb.lab.clients import run_load
from galelb.lab.http_client import Target
from galelb.lab.jobs import Downloads, Requests, Result
from galelb.lab.lab import kill_host, start_host
from galelb.lab.ready import wait_routable
from galelb.lab.session import open_lab
from galelb.lab.state import new_spec

SIZE, RATE = 6_000_000, 500_000


async def test_a_restart_is_not_noticed_by_clients() -> None:
    results: list[Result] = []
    stop = trio.Event()
    async with open_lab(new_spec()) as state:
        (vip,) = state.plan.vips
        targets = (Target(vip.address, vip.port),)
        jobs = [
            Downloads(targets=targets, size=SIZE, rate=RATE, count=3, parallel=3),
            Requests(targets=targets, fresh=4, kept=2, pause_s=0.02),
        ]
        client, balancer = state.plan.host("client1"), state.plan.host("lb1")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_load, client, jobs, results.append, stop)
            await trio.sleep(2)
            kill_host(state, balancer)
            await trio.sleep(2)
            start_host(state, balancer)
            await wait_routable(state)
            while sum(result.kind == "download" for result in results) < 3:
                await trio.sleep(0.1)
            after = await status(balancer)
            stop.set()

    assert [result for result in results if result.error] == []
    assert sum(result.kind == "download" for result in results) == 3
    assert after["adopted"] is True
    assert "no_node" not in after["reasons"]
