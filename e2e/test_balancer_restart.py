# SPDX-License-Identifier: Apache-2.0
"""A balancer's daemon ends and returns; its kernel side forwards all the while."""

import os
import signal

import pytest
import trio

from galelb.lab.balancer_api import status
from galelb.lab.clients import run_load
from galelb.lab.http_client import Target
from galelb.lab.jobs import Downloads, Held, Requests, Result
from galelb.lab.lab import kill_host, start_host
from galelb.lab.processes import is_alive
from galelb.lab.ready import wait_routable
from galelb.lab.session import open_lab
from galelb.lab.state import new_spec

SIZE, RATE, HELD = 6_000_000, 500_000, 100
SMALL, LARGE = "max_flows = 4096", "max_flows = 65536"


def small_tables():
    return new_spec(options=(("max_flows", "4096"),))


def resize(balancer):
    """Have the configuration ask for tables of another size."""
    text = balancer.config.read_text()
    assert SMALL in text
    balancer.config.write_text(text.replace(SMALL, LARGE))


def signalled(state, balancer, number):
    for process in state.processes[balancer.name]:
        os.kill(process.pid, number)


async def terminate(state, balancer):
    """End the daemon as systemd does, and wait until it has ended."""
    signalled(state, balancer, signal.SIGTERM)
    while any(is_alive(process) for process in state.processes[balancer.name]):
        await trio.sleep(0.02)
    kill_host(state, balancer)  # what is dead is only taken off the list


async def killed(state, balancer):
    kill_host(state, balancer)
    await trio.sleep(2)
    start_host(state, balancer)


async def terminated(state, balancer):
    await terminate(state, balancer)
    start_host(state, balancer)


async def resized_by_a_restart(state, balancer):
    resize(balancer)
    await terminated(state, balancer)


async def resized_by_a_crash(state, balancer):
    resize(balancer)
    await killed(state, balancer)


async def resized_by_a_reload(state, balancer):
    resize(balancer)
    signalled(state, balancer, signal.SIGHUP)
    while "event=reloaded" not in balancer.log.read_text():
        assert "event=not_reloaded" not in balancer.log.read_text()
        await trio.sleep(0.05)


RESIZED = (resized_by_a_restart, resized_by_a_crash, resized_by_a_reload)


def fresh_of(change):
    """Return how many clients connect all the time.

    While flows go to other tables, for some 50 ms, a SYN is dropped and sent again after a
    second, which is all that these clients wait.
    """
    return 0 if change in RESIZED else 4


@pytest.mark.parametrize("change", [killed, terminated, *RESIZED])
async def test_a_restart_is_not_noticed_by_clients(change):
    results: list[Result] = []
    stop = trio.Event()
    async with open_lab(small_tables()) as state:
        (vip,) = state.plan.vips
        targets = (Target(vip.address, vip.port),)
        jobs = [
            Downloads(targets=targets, size=SIZE, rate=RATE, count=3, parallel=3),
            Held(targets=targets, connections=HELD, duration_s=12.0, every_s=1.0),
            Requests(targets=targets, fresh=fresh_of(change), kept=4, pause_s=0.02),
        ]
        client, balancer = state.plan.host("client1"), state.plan.host("lb1")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_load, client, jobs, results.append, stop)
            await trio.sleep(2)
            await change(state, balancer)
            await wait_routable(state)
            while count(results, "download") < 3 or count(results, "held") < HELD:
                await trio.sleep(0.1)
            after, log = await status(balancer), balancer.log.read_text()
            stop.set()

    assert [result for result in results if result.error] == []
    assert (count(results, "download"), count(results, "held")) == (3, HELD)
    assert after["adopted"] is (change is not resized_by_a_reload)
    assert "no_node" not in after["reasons"]
    assert ("event=flows_carried" in log) is (change in RESIZED)
    assert "event=flows_lost" not in log


def count(results, kind):
    return sum(result.kind == kind for result in results)
