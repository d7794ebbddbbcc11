# SPDX-License-Identifier: Apache-2.0
"""An operator stops a node and starts it again, also across restarts of its agent.

Files are written in a thread, for which virtual time does not wait: no moment is asserted here.
"""

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from galelb.node.agent import NodeAgent
from galelb.node.checks import CheckFailed

CHECK = {"name": "web", "type": "tcp", "target": "127.0.0.1:80", "interval": 1.0, "fall": 1}


@pytest.fixture
def run(nursery, network, make_config):
    async def _run(balancers, checks=(), **node):
        agent = NodeAgent(
            make_config(list(balancers), checks, **node), connect=network(balancers).connect
        )
        agent.done = trio.Event()

        async def run(*, task_status):
            await agent.run(task_status=task_status)
            agent.done.set()

        await nursery.start(run)
        return agent

    return _run


async def test_a_stop_drains_the_node_everywhere_and_the_agent_stays(
    run, make_balancer, autojump_clock, nursery
):
    balancers = {"lb1": make_balancer(), "lb2": make_balancer()}
    agent = await run(balancers)
    await trio.sleep(1)
    await agent.operator_stop()

    assert [True, True] == [client.left for client in agent.clients]
    await trio.sleep(20)
    assert [{2}, {2}] == [set(b.statuses[-5:]) for b in balancers.values()]
    assert "stopped by the operator" == balancers["lb1"].reports[-1][1].message

    await agent.operator_start()
    await trio.sleep(1)
    assert [0, 0] == [b.statuses[-1] for b in balancers.values()]


async def test_a_stop_does_not_wait_for_ever(run, balancer, autojump_clock, nursery):
    balancer.drains = False
    agent = await run({"lb": balancer})
    await trio.sleep(1)
    with trio.fail_after(60):
        await agent.operator_stop()

    assert (2, False) == (balancer.statuses[-1], agent.clients[0].left)


async def test_a_stopped_node_stays_stopped_when_its_agent_starts_anew(
    run, balancer, network, make_config, autojump_clock, nursery
):
    first = NodeAgent(make_config(["lb"]), connect=network({"lb": balancer}).connect)
    async with trio.open_nursery() as inner:
        await inner.start(first.run)
        await trio.sleep(1)
        await first.operator_stop()
        inner.cancel_scope.cancel()
    balancer.reports.clear()
    with capture_logs() as logs:
        second = await run({"lb": balancer})
        await trio.sleep(10)

    assert {2} == set(balancer.statuses)
    assert ["galelb node start"] == [
        entry["mend"] for entry in logs if entry["event"] == "stopped_by_operator"
    ]
    assert first.stopped_at == pytest.approx(second.stopped_at, abs=10)

    await second.operator_start()
    await trio.sleep(1)
    third = NodeAgent(make_config(["lb"]))
    assert (0, None) == (balancer.statuses[-1], third.stopped_at)


async def test_a_second_stop_and_a_second_start_change_nothing(
    run, balancer, autojump_clock, nursery
):
    agent = await run({"lb": balancer})
    await trio.sleep(1)
    await agent.operator_stop()
    since = agent.stopped_at
    await agent.operator_stop()
    assert since == agent.stopped_at

    await agent.operator_start()
    await agent.operator_start()
    assert (None, False) == (agent.stopped_at, agent.health.stopped)


async def test_what_cannot_be_kept_is_done_and_said(
    run, balancer, tmp_path, autojump_clock, nursery
):
    (tmp_path / "file").write_text("")
    agent = await run({"lb": balancer}, stop_file=str(tmp_path / "file" / "stopped"))
    await trio.sleep(1)
    with capture_logs() as logs:
        await agent.operator_stop()

    assert 2 == balancer.statuses[-1]
    assert "decision_not_kept" in [entry["event"] for entry in logs]
    path = tmp_path / "file" / "stopped"
    assert f"a restart of the agent will forget this stop: File exists: {path}" == agent.unkept


async def test_a_start_does_not_overrule_the_checks(
    run, balancer, monkeypatch, autojump_clock, nursery
):
    async def probe(check):
        await trio.lowlevel.checkpoint()
        raise CheckFailed("refused")

    monkeypatch.setattr("galelb.node.checks.probe", probe)
    agent = await run({"lb": balancer}, [CHECK])
    await trio.sleep(1)
    await agent.operator_stop()
    await trio.sleep(1)
    await agent.operator_start()
    await trio.sleep(1)

    assert [1, 2, 1] == dedup(balancer.statuses)
    assert "web: refused" == balancer.reports[-1][1].message


def dedup(values):
    return [b for a, b in zip([None, *values], values, strict=False) if a != b]


async def test_a_stopped_node_is_announced_before_its_checks_are_known(
    run, balancer, monkeypatch, autojump_clock, nursery
):
    async def probe(check):
        await trio.sleep_forever()

    monkeypatch.setattr("galelb.node.checks.probe", probe)
    agent = await run({"lb": balancer}, [CHECK])
    await agent.operator_stop()
    await trio.sleep(1)
    assert {2} == set(balancer.statuses)

    await agent.operator_start()
    await trio.sleep(1)
    assert "web: not checked yet" == balancer.reports[-1][1].message


async def test_a_stopped_node_leaves_at_once(run, balancer, autojump_clock, nursery):
    agent = await run({"lb": balancer})
    await trio.sleep(1)
    await agent.operator_stop()
    agent.stop()
    began = trio.current_time()
    await agent.done.wait()

    assert began == pytest.approx(trio.current_time(), abs=0.01)
