# SPDX-License-Identifier: Apache-2.0
"""`galelb capture` at its ends: what it prints, what it writes, what it refuses."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result
from structlog.testing import capture_logs

from galelb.api.listen import SOCKET_FILE
from galelb.api.server import ApiServer
from galelb.api.view import CaptureWish
from galelb.capture.pcapng import (
    Direction,
    Frame,
    Interface,
    Statistics,
    frame_block,
    interface_block,
    section_block,
    statistics_block,
)
from galelb.commands.capture import capture_command
from galelb.errors import ApiError, ConfigError, ProtocolError
from galelb.testing.fakes import BROKEN, FakeBalancer
from galelb.testing.packets import frame

DATA = frame("203.0.113.9", "198.51.100.1", sport=40001, dport=80)
DROPPED = Frame(
    interface=0,
    time_ns=10**18,
    data=DATA,
    length=len(DATA),
    direction=Direction.INBOUND,
    packet_id=1,
    comment="verdict=drop reason=no_node service=web",
)
PARTS = [
    section_block("galelb 0") + interface_block(Interface("eth0", "", 260)),
    frame_block(DROPPED),
    statistics_block(Statistics(time_ns=10**18, captured=1, lost=1234)),
]

Run = Callable[..., Awaitable[Result]]


@pytest.fixture
def balancer() -> FakeBalancer:
    return FakeBalancer(capture_parts=list(PARTS))


@pytest.fixture
async def run(tmp_path: Path, balancer: FakeBalancer, nursery: trio.Nursery) -> Run:
    """Run the command against the balancer; errors of galelb are raised."""
    server = ApiServer(balancer, addresses=(), port=5555, directory=tmp_path)
    with capture_logs():
        await nursery.start(server.run)

    async def run(*arguments: str) -> Result:
        words = [*arguments, "--api", f"unix:{tmp_path / SOCKET_FILE}"]
        invoke = partial(CliRunner().invoke, capture_command, words, catch_exceptions=False)
        with capture_logs():
            return await trio.to_thread.run_sync(invoke)

    return run


@pytest.fixture(autouse=True)
def _threads_get_no_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("galelb.commands.capture.signal.signal", lambda *arguments: None)


async def test_a_line_per_packet_and_counts_beside_them(run: Run) -> None:
    result = await run()

    assert 0 == result.exit_code
    (line,) = result.stdout.splitlines()
    assert line.endswith(
        " eth0 203.0.113.9:40001 > 198.51.100.1:80 tcp [S], 54 bytes -> web DROPPED: no_node"
    )
    assert "capturing; Ctrl-C ends it\n1 packet captured, 1,234 lost\n" == result.stderr


async def test_an_object_per_packet(run: Run) -> None:
    result = await run("--json")

    assert ["no_node"] == [json.loads(line)["reason"] for line in result.stdout.splitlines()]


async def test_options_reach_the_balancer(run: Run, balancer: FakeBalancer) -> None:
    await run("--service", "web", "--node", "web-1", "--dropped", "--snaplen", "64")
    await run("--all", "--count", "3", "--seconds", "2")

    address = balancer.node_list[0].record.node.address
    assert [
        CaptureWish(service="web", node=address, dropped=True, snaplen=64),
        CaptureWish(everything=True, count=3, seconds=2),
    ] == balancer.wishes


async def test_a_file_gets_every_byte_in_place_of_what_was_there(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    path.write_bytes(b"former" * 1000)

    result = await run("--out", str(path))

    assert (0, "") == (result.exit_code, result.stdout)
    assert b"".join(PARTS) == path.read_bytes()
    assert "1 packet captured, 1,234 lost" in result.stderr


async def test_stdout_gets_every_byte_and_no_other(run: Run) -> None:
    result = await run("--out", "-")

    assert b"".join(PARTS) == result.stdout_bytes


async def test_a_capture_that_is_refused_costs_no_file(
    run: Run, balancer: FakeBalancer, tmp_path: Path
) -> None:
    balancer.captures = 1
    kept, new = tmp_path / "kept", tmp_path / "new"
    kept.write_text("precious")

    for path in (kept, new):
        with pytest.raises(ApiError, match="a capture already"):
            await run("--out", str(path))

    assert "precious" == kept.read_text()
    assert not new.exists()


async def test_a_file_that_cannot_be_written_is_said_before_anything_is_captured(
    run: Run, balancer: FakeBalancer, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"--out .*/none/x: No such file"):
        await run("--out", str(tmp_path / "none/x"))

    assert [] == balancer.wishes


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--out", "x", "--json"], "choose one"),
        (["--all", "--service", "web"], "leave out --service"),
        (["--snaplen", "10"], "--snaplen"),
        (["--count", "0"], "--count"),
    ],
)
async def test_bad_usage(run: Run, balancer: FakeBalancer, words: list[str], says: str) -> None:
    result = await run(*words)

    assert 2 == result.exit_code
    assert says in result.stderr
    assert [] == balancer.wishes


async def test_an_answer_that_is_no_capture_is_an_error(run: Run, balancer: FakeBalancer) -> None:
    balancer.capture_parts = [b"<html>hello</html>"]

    with pytest.raises(ProtocolError, match="no pcapng"):
        await run()


async def test_a_capture_that_the_balancer_ends_is_an_error_and_what_there_is_stays(
    run: Run, balancer: FakeBalancer, tmp_path: Path
) -> None:
    balancer.capture_parts = [*PARTS, BROKEN]
    path = tmp_path / "x"

    with pytest.raises(ApiError, match="ended the capture"):
        await run("--out", str(path))

    assert b"".join(PARTS) == path.read_bytes()
