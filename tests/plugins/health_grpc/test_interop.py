# SPDX-License-Identifier: Apache-2.0
"""Nodes made with grpcio report to our server over real sockets."""

import functools
import json
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest
import trio

CLIENT = Path(__file__).with_name("grpcio_client.py")
LOOPBACK = ip_address("127.0.0.1")


def command(port, scenario):
    return [sys.executable, str(CLIENT), str(port), scenario]


async def play(port, scenario):
    with trio.fail_after(60):
        done = await trio.run_process(command(port, scenario), capture_stdout=True)
    return json.loads(done.stdout)


@pytest.fixture
async def core(make_core, free_port, nursery):
    core = make_core(free_port)
    core.port = free_port
    core.scope = trio.CancelScope()

    async def run(task_status=trio.TASK_STATUS_IGNORED):
        with core.scope:
            await core.source().run(task_status=task_status)

    await nursery.start(run)
    return core


async def test_get_config(core):
    assert {
        "checks_before_routing": 3,
        "health_check_timeout": 5_000_000_000,
        "black_list_after_fails": 5,
        "black_list_expiry": 300_000_000_000,
    } == await play(core.port, "config")


async def test_each_report_is_answered_with_the_balancers_view(core):
    result = await play(core.port, "reports")

    assert {
        "answers": [
            ["web", 1, "probation: 1 of 3 reports in a row"],
            ["web", 1, "probation: 2 of 3 reports in a row"],
            ["web", 0, "routable: serving"],
            ["web", 1, "down: not serving: disk full"],
            ["web", 2, "down: shutting down"],
        ],
        "code": "OK",
    } == result


async def test_pipelined_reports(core):
    assert {"answers": 150, "code": "OK"} == await play(core.port, "pipelined")


async def test_many_streams_of_one_node_and_one_loss(core):
    result = await play(core.port, "many_streams")
    with trio.fail_after(10):
        await core.was_gone.wait()

    assert {"answers": 50, "codes": ["OK"]} == result
    assert 1 == len(core.gone)


async def test_errors_have_their_codes(core):
    assert {
        "unknown": "UNIMPLEMENTED",
        "not a message": "INVALID_ARGUMENT",
        "bad status": "INVALID_ARGUMENT",
        "too long": "RESOURCE_EXHAUSTED",
        "compressed": "UNIMPLEMENTED",
        "deadline": "DEADLINE_EXCEEDED",
    } == await play(core.port, "errors")


async def test_cancelling_a_stream_loses_the_node(core):
    result = await play(core.port, "cancel")
    with trio.fail_after(10):
        await core.was_gone.wait()

    assert {"state": "probation", "code": "CANCELLED"} == result


async def test_a_killed_node_is_lost_at_once(core):
    async with trio.open_nursery() as inner:
        process = await inner.start(_staying, core.port)
        process.kill()
        with trio.fail_after(10):
            await core.was_gone.wait()

    assert [("health_grpc", LOOPBACK)] == [entry[:2] for entry in core.gone]
    assert "its connection ended: " in core.gone[0][2]


async def test_stopping_the_server_tells_the_nodes_and_loses_none(core):
    async with trio.open_nursery() as inner:
        process = await inner.start(_staying, core.port)
        core.scope.cancel()
        with trio.fail_after(30):
            rest = await process.stdout.receive_some(4096)

    assert {"code": "UNAVAILABLE"} == json.loads(rest)
    assert [] == core.gone


async def _staying(port, *, task_status):
    """Run a node that stays; started when its first report was answered."""
    async with trio.open_nursery() as nursery:
        run = functools.partial(
            trio.run_process, command(port, "stay"), stdout=subprocess.PIPE, check=False
        )
        process = await nursery.start(run)
        with trio.fail_after(30):
            first = await process.stdout.receive_some(4096)
        assert {"state": "probation"} == json.loads(first)
        task_status.started(process)
