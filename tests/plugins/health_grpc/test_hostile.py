# SPDX-License-Identifier: Apache-2.0
"""Hostile clients over real sockets: an honest node does not notice them.

The deadline of an answer is half of `checks_timeout`: a node that waits for it still reports in
time. What is counted are missed deadlines and falls, not milliseconds.
"""

import functools
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest
import trio
from galelb_plugins.health_grpc.protocol import REPORT

from galelb.grpc.client import Channel
from galelb.grpc.signal import Signal
from galelb.logs import configure_logging
from galelb.model import NodeState

HOSTILE = Path(__file__).with_name("hostile_client.py")
HONEST = ip_address("127.0.0.99")
DEADLINE_S = 2.5
REPORTS = 12
GAP_S = 0.05

pytestmark = pytest.mark.netns  # no namespaces, but too much traffic for the fast tier


@pytest.fixture
async def core(make_core, free_port, nursery):
    configure_logging("warning")
    core = make_core(free_port, max_nodes=3500)
    core.port = free_port
    core.source = core.source()
    await nursery.start(core.source.run)
    yield core
    nursery.cancel_scope.cancel()


@pytest.fixture
def attack(core, nursery):
    """Start an attack; returns its process once it goes on."""

    async def start(name):
        command = [sys.executable, str(HOSTILE), str(core.port), name]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "check": False}
        process = await nursery.start(functools.partial(trio.run_process, command, **pipes))
        with trio.fail_after(120):
            assert b"attacking\n" == await process.stdout.receive_some(100)
        return process

    return start


async def stop(process):
    """End an attack; returns how often it did something."""
    await process.stdin.aclose()
    with trio.fail_after(60):
        said = b""
        while data := await process.stdout.receive_some(100):
            said += data
        await process.wait()
    return int(said)


class Honest:
    """A node that reports all the time."""

    def __init__(self, core, nursery, address=HONEST):
        self.missed = self.answers = 0
        self._told = Signal()
        nursery.start_soon(self._report, core, str(address))

    async def _report(self, core, address):
        with trio.fail_after(30):
            stream = await trio.open_tcp_stream("127.0.0.1", core.port, local_address=address)
        async with trio.open_nursery() as nursery:
            channel = Channel(stream, "test")
            await channel.start(nursery)
            call = channel.stream(REPORT)
            while True:
                await call.send(b"")
                with trio.move_on_after(DEADLINE_S) as scope:
                    assert await call.receive()
                    self.answers += 1
                self.missed += scope.cancelled_caught
                self._told.notify()
                await trio.sleep(GAP_S)

    async def more(self, count=REPORTS):
        """Wait for more answers; returns how many deadlines were missed in all."""
        wanted = self.answers + count
        while self.answers < wanted and not self.missed:
            await self._told.wait()
        return self.missed


@pytest.mark.parametrize(
    "name",
    [
        "garbage",
        "garbage_after_the_greeting",
        "pings",
        "window_updates",
        "settings",
        "empty_data",
        "unknown_frames",
        "endless_headers",
        "rapid_resets",
        "too_long_messages",
        "too_long_frames",
        "reports",
        "one_byte_at_a_time",
        "new_connections",
    ],
)
async def test_an_attack_costs_an_honest_node_nothing(core, attack, nursery, name):
    honest = Honest(core, nursery)
    await honest.more(3)
    attacker = await attack(name)

    missed = await honest.more()
    newcomer = await Honest(core, nursery, HONEST + 1).more()

    assert (0, 0) == (missed, newcomer)
    assert await stop(attacker) > 0
    assert NodeState.ROUTABLE == core.health.get(HONEST).state
    assert [] == [gone for gone in core.gone if gone[1] in (HONEST, HONEST + 1)]


async def test_ten_thousand_connections(core, attack, nursery):
    honest = Honest(core, nursery)
    await honest.more(3)
    attacker = await attack("ten_thousand_connections")

    missed = await honest.more()
    newcomer = await Honest(core, nursery, HONEST + 1).more()
    open_now = core.source.server.connections
    await stop(attacker)

    assert (0, 0) == (missed, newcomer)
    assert open_now <= core.source.options.max_connections + 2
    assert NodeState.ROUTABLE == core.health.get(HONEST).state
    assert [] == [gone for gone in core.gone if gone[1] in (HONEST, HONEST + 1)]
