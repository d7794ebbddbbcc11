# SPDX-License-Identifier: Apache-2.0
"""Our agent reports to a balancer made with grpcio, as its own process and in ours."""

import functools
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from galelb.config.node import NodeConfig
from galelb.node.agent import NodeAgent

BALANCER = [sys.executable, str(Path(__file__).with_name("grpcio_balancer.py"))]
AGENT = [sys.executable, "-c", "from galelb.node.command import node_command; node_command()"]


class Lines:
    """The lines of a stream, each as JSON."""

    def __init__(self, stream):
        self._stream = stream
        self._buffer = b""

    async def next(self):
        with trio.fail_after(60):
            while b"\n" not in self._buffer:
                data = await self._stream.receive_some(4096)
                assert data, "ended"
                self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    async def until(self, *wanted):
        while (line := await self.next())[: len(wanted)] != list(wanted):
            pass
        return line


@pytest.fixture(params=[[], ["original"]], ids=["ours", "original"])
async def balancer(request, nursery):
    command = [*BALANCER, *request.param]
    run = functools.partial(
        trio.run_process, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, check=False
    )
    process = await nursery.start(run)
    lines = Lines(process.stdout)
    _, lines.port = await lines.until("port")
    lines.stdin = process.stdin
    yield lines
    await process.stdin.aclose()
    with trio.fail_after(30):
        await process.wait()


async def test_reports_and_leaves(balancer, nursery):
    config = NodeConfig.model_validate(
        {
            "load_balancer": {"addresses": ({"ip": "127.0.0.1", "port": balancer.port},)},
            "node": {"name": "web", "drain_timeout": 20.0},
        },
        strict=False,
    )
    agent = NodeAgent(config)
    nursery.start_soon(agent.run)

    for _ in range(3):
        assert ["report", 0, "web"] == await balancer.until("report")
    agent.stop()
    assert ["report", 2, "web"] == await balancer.until("report", 2)


async def test_a_stopped_balancer_is_noticed(balancer, nursery):
    config = NodeConfig.model_validate(
        {"load_balancer": {"addresses": ({"ip": "127.0.0.1", "port": balancer.port},)}},
        strict=False,
    )
    agent = NodeAgent(config)
    async with trio.open_nursery() as inner:
        inner.start_soon(agent.run)
        await balancer.until("report")
        with trio.fail_after(30):
            while agent.clients[0].answer is None:
                await agent.clients[0].answered.wait()
            await balancer.stdin.aclose()
            while agent.clients[0].answer is not None:
                await agent.clients[0].answered.wait()
        inner.cancel_scope.cancel()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_command_leaves_on_a_signal(balancer, nursery, tmp_path, number):
    path = tmp_path / "node.toml"
    path.write_text(
        f"""
        [load_balancer]
        addresses = [ {{ hostname = "localhost", port = {balancer.port} }} ]
        [node]
        name = "web"
        state_file = "{tmp_path}/node.json"
        stop_file = "{tmp_path}/stopped"
        """
    )
    run = functools.partial(
        trio.run_process, [*AGENT, "--config", str(path)], stderr=subprocess.PIPE, check=False
    )
    process = await nursery.start(run)

    assert ["report", 0, "web"] == await balancer.until("report")
    process.send_signal(number)
    await balancer.until("report", 2, "web")
    with trio.fail_after(60):
        assert 0 == await process.wait()
    log = await process.stderr.receive_some(65536)
    assert b"node_left" in log
