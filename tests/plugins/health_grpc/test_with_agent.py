# SPDX-License-Identifier: Apache-2.0
"""The whole way from a node's agent to the balancer's registry, in virtual time."""

from ipaddress import ip_address

import pytest
import trio
import trio.testing

from galelb.config.node import NodeConfig
from galelb.model import NodeState
from galelb.node.agent import NodeAgent
from galelb.node.checks import CheckFailed

NODE = ip_address("10.0.0.1")
CONFIG = NodeConfig.model_validate(
    {
        "load_balancer": {"addresses": ({"hostname": "lb"},)},
        "node": {"name": "web", "weight": 3},
        "checks": ({"name": "c", "type": "tcp", "target": "127.0.0.1:80"},),
    },
    strict=False,
)


class World:
    """One balancer, one node, and a cable between them."""

    def __init__(self, core, nursery):
        self.core = core
        self.source = core.source()
        self.nursery = nursery
        self.cable = True
        self.serves = True
        self.ends = []

    async def connect(self, host, port):
        await trio.lowlevel.checkpoint()
        if not self.cable:
            await trio.sleep_forever()
        ours, theirs = trio.testing.memory_stream_pair()
        self.ends.append(theirs)
        self.nursery.start_soon(self.source.server.serve_stream, theirs, NODE)
        return ours

    async def probe(self, check):
        await trio.lowlevel.checkpoint()
        if not self.serves:
            raise CheckFailed("refused")

    def cut(self):
        """Cut the cable: nothing arrives any more, and nobody is told."""
        self.cable = False
        for stream in self.ends:
            stream.send_stream.send_all_hook = trio.sleep_forever
            stream.receive_stream.receive_some_hook = trio.sleep_forever
        self.ends.clear()

    @property
    def record(self):
        self.core.health.tick(trio.current_time())
        return self.core.health.get(NODE)


@pytest.fixture
async def world(make_core, nursery, monkeypatch):
    world = World(make_core(), nursery)
    monkeypatch.setattr("galelb.node.checks.probe", world.probe)
    return world


async def test_joins_within_a_quarter_of_the_timeout(world, autojump_clock, nursery):
    nursery.start_soon(NodeAgent(CONFIG, connect=world.connect).run)
    await trio.sleep(1.1)

    assert (NodeState.ROUTABLE, "web", 3) == (
        world.record.state,
        world.record.node.name,
        world.record.weight,
    )


async def test_stays_for_ten_minutes(world, autojump_clock, nursery):
    nursery.start_soon(NodeAgent(CONFIG, connect=world.connect).run)
    await trio.sleep(1.1)
    for _ in range(600):
        await trio.sleep(1)
        assert NodeState.ROUTABLE == world.record.state

    assert [] == world.core.gone


async def test_a_service_that_dies_and_returns(world, autojump_clock, nursery):
    nursery.start_soon(NodeAgent(CONFIG, connect=world.connect).run)
    await trio.sleep(3.5)
    world.serves = False
    await trio.sleep(2)
    down = world.record
    world.serves = True
    await trio.sleep(2.5)

    assert (NodeState.DOWN, "not serving: c: refused", 1) == (
        down.state,
        down.reason,
        down.failures,
    )
    assert NodeState.ROUTABLE == world.record.state


async def test_a_killed_agent(world, autojump_clock, nursery):
    with trio.move_on_after(3):
        await NodeAgent(CONFIG, connect=world.connect).run()
    await trio.testing.wait_all_tasks_blocked()

    assert (NodeState.DOWN, 1) == (world.record.state, world.record.failures)


async def test_a_planned_stop(world, autojump_clock, nursery):
    agent = NodeAgent(CONFIG, connect=world.connect)
    nursery.start_soon(agent.run)
    await trio.sleep(3)
    agent.stop()
    await world.core.was_gone.wait()

    assert 3.0 == pytest.approx(trio.current_time(), abs=0.01)
    assert (NodeState.DOWN, 0, True) == (
        world.record.state,
        world.record.failures,
        world.record.draining,
    )


async def test_a_cut_cable_takes_the_node_out_after_the_timeout(world, autojump_clock, nursery):
    nursery.start_soon(NodeAgent(CONFIG, connect=world.connect).run)
    await trio.sleep(10)
    world.cut()
    await trio.sleep(3)
    soon = world.record.state
    await trio.sleep(3.9)  # one report was on its way

    assert NodeState.ROUTABLE == soon
    assert (NodeState.DOWN, "no report for 5 s") == (world.record.state, world.record.reason)


async def test_a_mended_cable_brings_it_back(world, autojump_clock, nursery):
    nursery.start_soon(NodeAgent(CONFIG, connect=world.connect).run)
    await trio.sleep(10)
    world.cut()
    await trio.sleep(30)
    world.cable = True
    await trio.sleep(15)

    assert NodeState.ROUTABLE == world.record.state
