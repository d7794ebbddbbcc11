# SPDX-License-Identifier: Apache-2.0
"""The agent among several balancers: joining, checking, leaving."""

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from galelb.node.agent import NodeAgent
from galelb.node.checks import CheckFailed

CHECK = {"name": "web", "type": "tcp", "target": "127.0.0.1:80", "interval": 1.0, "fall": 2}


@pytest.fixture
def two(make_balancer):
    return {"lb1": make_balancer(), "lb2": make_balancer()}


@pytest.fixture
def start(nursery, network, make_config):
    def _start(balancers, checks=(), **node):
        agent = NodeAgent(
            make_config(list(balancers), checks, **node), connect=network(balancers).connect
        )
        done = trio.Event()

        async def run():
            await agent.run()
            done.set()

        nursery.start_soon(run)
        agent.done = done
        return agent

    return _start


@pytest.fixture
def service(monkeypatch):
    """The outcome of every check: None passes, a text fails."""

    class Service:
        trouble = None

        async def probe(self, check):
            await trio.lowlevel.checkpoint()
            if self.trouble:
                raise CheckFailed(self.trouble)

    service = Service()
    monkeypatch.setattr("galelb.node.checks.probe", service.probe)
    return service


async def test_reports_to_every_balancer(start, two, autojump_clock, nursery):
    start(two)
    await trio.sleep(1)

    assert [1, 1] == [len(balancer.reports) for balancer in two.values()]


async def test_a_dead_balancer_does_not_hold_up_the_others(start, two, autojump_clock, nursery):
    two["lb1"].refuses = True
    start(two)
    await trio.sleep(30)

    assert len(two["lb2"].reports) > 15


async def test_a_failing_service_is_told_at_once_to_all(
    start, two, service, autojump_clock, nursery
):
    start(two, [CHECK])
    await trio.sleep(2.5)
    service.trouble = "refused"
    await trio.sleep(3)

    for balancer in two.values():
        first_bad = next((time, report) for time, report in balancer.reports if report.status == 1)
        assert 4.0 == pytest.approx(first_bad[0], abs=0.01)  # the second failed run
        assert "web: refused" == first_bad[1].message
    service.trouble = None
    await trio.sleep(2)
    assert [0, 0] == [balancer.statuses[-1] for balancer in two.values()]


async def test_takes_its_leave_of_all_and_returns(start, two, autojump_clock, nursery):
    agent = start(two)
    await trio.sleep(1)
    agent.stop()
    await agent.done.wait()

    assert 1.0 == pytest.approx(trio.current_time(), abs=0.01)
    assert [[0, 2], [0, 2]] == [balancer.statuses for balancer in two.values()]


async def test_waits_no_longer_than_the_drain_timeout(start, two, autojump_clock, nursery):
    two["lb2"].drains = False
    agent = start(two, drain_timeout=7.0)
    await trio.sleep(1)
    with capture_logs() as logs:
        agent.stop()
        await agent.done.wait()

    assert 8.0 == pytest.approx(trio.current_time(), abs=0.01)
    assert [["lb2:7070"]] == [
        entry["balancers"] for entry in logs if entry["event"] == "leaving_undrained"
    ]


async def test_does_not_wait_for_balancers_that_are_away(start, two, autojump_clock, nursery):
    two["lb1"].refuses = True
    agent = start(two)
    await trio.sleep(1)
    agent.stop()
    await agent.done.wait()

    assert 1.0 == pytest.approx(trio.current_time(), abs=0.01)


async def test_a_balancer_that_dies_meanwhile_ends_the_wait(start, two, autojump_clock, nursery):
    two["lb1"].drains = False
    agent = start(two)
    await trio.sleep(1)
    agent.stop()
    await trio.sleep(1)
    two["lb1"].refuses = True
    two["lb1"].die()
    await agent.done.wait()

    assert 2.0 == pytest.approx(trio.current_time(), abs=0.01)


async def test_a_node_that_the_operator_drains_still_says_that_it_leaves(
    start, two, autojump_clock, nursery
):
    """The balancers answer "draining" all the time; the report must go out all the same."""
    for balancer in two.values():
        balancer.state = "routable"
    agent = start(two)
    await trio.sleep(1)
    for client in agent.clients:
        client.answer = client.answer.__class__(status=2, state="routable", message="drained")
    agent.stop()
    await agent.done.wait()

    assert [2, 2] == [balancer.statuses[-1] for balancer in two.values()]


async def test_stop_before_anything_is_known(start, two, service, autojump_clock, nursery):
    for balancer in two.values():
        balancer.refuses = True
    agent = start(two, [CHECK])
    agent.stop()
    await agent.done.wait()

    assert trio.current_time() < 1


async def test_cancellation_leaves_nothing(network, two, make_config, autojump_clock, nursery):
    agent = NodeAgent(make_config(list(two)), connect=network(two).connect)
    with trio.move_on_after(3.3):
        await agent.run()
    await trio.testing.wait_all_tasks_blocked()

    assert [0, 0] == [balancer.server.connections for balancer in two.values()]
