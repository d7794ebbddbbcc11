# SPDX-License-Identifier: Apache-2.0
"""A node that knows only the service as the original wrote it: joins, falls, returns."""

import functools
import json
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest
import trio

from galelb.model import NodeState

CLIENT = Path(__file__).with_name("original_node.py")
LOOPBACK = ip_address("127.0.0.1")


class OriginalNode:
    def __init__(self, process):
        self._process = process
        self._buffer = b""

    async def ask(self, *command):
        await self._process.stdin.send_all(json.dumps(command).encode() + b"\n")
        with trio.fail_after(60):
            while b"\n" not in self._buffer:
                data = await self._process.stdout.receive_some(4096)
                assert data, "the node ended"
                self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    async def reports(self, *statuses):
        return [await self.ask("report", status) for status in statuses]

    async def report_until(self, state):
        """Report until the balancer's view is this state; returns the answers on the way."""
        answers = [await self.ask("report", 0)]
        with trio.fail_after(60):
            while not answers[-1][2].startswith(state):
                await trio.sleep(0.05)
                answers.append(await self.ask("report", 0))
        return answers

    def kill(self):
        self._process.kill()


@pytest.fixture
async def core(make_core, free_port, nursery):
    core = make_core(
        free_port,
        checks_before_routing=3,
        checks_timeout=20.0,
        black_list_after_fails=2,
        black_list_expiry=1.0,
    )
    core.port = free_port
    await nursery.start(core.source().run)
    yield core
    nursery.cancel_scope.cancel()


@pytest.fixture
def start(core, nursery):
    async def start_node():
        command = [sys.executable, str(CLIENT), f"127.0.0.1:{core.port}"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "check": False}
        process = await nursery.start(functools.partial(trio.run_process, command, **pipes))
        return OriginalNode(process)

    return start_node


async def test_it_learns_how_often_to_report(start):
    node = await start()

    assert [3, 20_000_000_000, 2, 1_000_000_000] == await node.ask("config")


async def test_it_joins_falls_is_black_listed_and_returns(core, start):
    node = await start()
    await node.ask("open")

    joins = await node.reports(0, 0, 0, 0)
    falls = await node.ask("report", 1, "disk full")
    again = await node.reports(0, 0, 0)
    falls_again = await node.ask("report", 1, "disk full")
    listed = await node.reports(0, 0)
    returns = await node.report_until("routable")

    assert [
        ["web", 1, "probation: 1 of 3 reports in a row"],
        ["web", 1, "probation: 2 of 3 reports in a row"],
        ["web", 0, "routable: serving"],
        ["web", 0, "routable: serving"],
    ] == joins
    assert ["web", 1, "down: not serving: disk full"] == falls
    assert joins[:3] == again
    reason = "black-listed after 2 failures, the last: not serving: disk full"
    assert ["web", 1, f"blacklisted: {reason}"] == falls_again
    assert [falls_again] * 2 == listed
    assert joins[:3] == returns[-3:]
    assert 0 == core.health.get(LOOPBACK).failures


async def test_it_leaves_without_blame(core, start):
    node = await start()
    await node.ask("open")
    await node.reports(0, 0, 0)

    assert [["web", 2, "routable: serving; announced its shutdown"]] == await node.reports(2)
    assert 0 == await node.ask("close")
    with trio.fail_after(30):
        await core.was_gone.wait()
    record = core.health.get(LOOPBACK)

    assert (NodeState.DOWN, 0) == (record.state, record.failures)


async def test_its_death_is_a_failure_and_it_may_return(core, start):
    node = await start()
    await node.ask("open")
    await node.reports(0, 0, 0)
    node.kill()
    with trio.fail_after(30):
        await core.was_gone.wait()
    dead = core.health.get(LOOPBACK)
    heir = await start()
    await heir.ask("open")

    assert (NodeState.DOWN, 1) == (dead.state, dead.failures)
    assert "routable: serving" == (await heir.reports(0, 0, 0))[-1][2]


@pytest.mark.parametrize(
    "more",
    [
        "2007",  # field 4, a number
        "320568656c6c6f",  # field 6, text
        "390102030405060708",  # field 7, 8 bytes
        "7d01020304",  # field 15, 4 bytes
        "9a3f090a0768617264776172",  # field 1011, a message in a message
        "fac2f80a0178",  # field 2854319, text
    ],
)
async def test_fields_that_nobody_knows_are_ignored(start, more):
    node = await start()
    await node.ask("open")

    assert ["web", 1, "probation: 1 of 3 reports in a row"] == await node.ask("strange", more)
