# SPDX-License-Identifier: Apache-2.0
"""The three kinds of check against real services on loopback."""

import contextlib
import sys
from pathlib import Path

import pytest
import trio

from galelb.config.node import CheckSection
from galelb.node.checks import CheckFailed, probe, run_check

CLOSED_PORT = 1  # nothing listens on tcpmux


async def serve(nursery, answer):
    """Serve `answer` to every connection; returns the port."""

    async def handle(stream):
        async with stream:
            if answer is not None:
                await stream.receive_some(4096)
                await stream.send_all(answer)
            else:
                await trio.sleep_forever()

    listeners = await nursery.start(
        lambda task_status: trio.serve_tcp(handle, 0, host="127.0.0.1", task_status=task_status)
    )
    return listeners[0].socket.getsockname()[1]


def tcp(port, **more):
    return CheckSection(name="c", type="tcp", target=f"127.0.0.1:{port}", **more)


def http(port, **more):
    return CheckSection(name="c", type="http", url=f"http://127.0.0.1:{port}/health", **more)


def execute(*command, **more):
    return CheckSection(name="c", type="exec", command=command, timeout=10.0, **more)


def status(line):
    return f"HTTP/1.1 {line}\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok".encode()


class Recorder:
    """Takes outcomes in place of LocalHealth."""

    def __init__(self):
        self.outcomes = []

    def passed(self, name):
        self.outcomes.append((trio.current_time(), name, "passed"))

    def failed(self, name, why):
        self.outcomes.append((trio.current_time(), name, why))


async def test_tcp_passes_when_it_connects(nursery):
    port = await serve(nursery, b"")

    await probe(tcp(port, timeout=10.0))

    nursery.cancel_scope.cancel()


async def test_tcp_fails_when_refused():
    with pytest.raises(CheckFailed, match=r"cannot connect to 127\.0\.0\.1:1: .*refused"):
        await probe(tcp(CLOSED_PORT, timeout=10.0))


@pytest.mark.parametrize("line", ["200 OK", "204 No Content", "302 Found"])
async def test_http_passes_on_good_statuses(nursery, line):
    port = await serve(nursery, status(line))

    await probe(http(port, timeout=10.0))

    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("code", [404, 500, 503])
async def test_http_fails_on_bad_statuses(nursery, code):
    port = await serve(nursery, status(f"{code} No"))

    with pytest.raises(CheckFailed, match=f"/health: HTTP status {code}"):
        await probe(http(port, timeout=10.0))
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("answer", [b"SSH-2.0-x\r\n", b""])
async def test_http_fails_on_other_protocols(nursery, answer):
    port = await serve(nursery, answer)

    with pytest.raises(CheckFailed, match="http://127"):
        await probe(http(port, timeout=10.0))
    nursery.cancel_scope.cancel()


async def test_http_fails_when_refused():
    with pytest.raises(CheckFailed, match="http://127"):
        await probe(http(CLOSED_PORT, timeout=10.0))


async def test_a_service_that_does_not_answer_fails_in_time(nursery):
    port = await serve(nursery, None)

    with pytest.raises(CheckFailed, match=r"no answer within 0\.1 s"):
        await probe(http(port, timeout=0.1))
    nursery.cancel_scope.cancel()


async def test_exec_passes_on_exit_0():
    await probe(execute(sys.executable, "-c", "pass"))


async def test_exec_fails_on_another_exit():
    with pytest.raises(CheckFailed, match="exited with 3"):
        await probe(execute(sys.executable, "-c", "raise SystemExit(3)"))


async def test_exec_fails_when_there_is_no_such_program():
    with pytest.raises(CheckFailed, match="cannot run /nonexistent: No such file"):
        await probe(execute("/nonexistent"))


async def test_exec_out_of_time_is_killed_with_its_children(tmp_path):
    fifo = tmp_path / "fifo"
    script = f"mkfifo {fifo}; cat {fifo}; true"  # the shell waits for a child that waits
    check = CheckSection(name="c", type="exec", command=("/bin/sh", "-c", script), timeout=0.5)

    with trio.fail_after(20), pytest.raises(CheckFailed, match=r"no answer within 0\.5 s"):
        await probe(check)

    with trio.fail_after(20):
        while any(str(fifo) in line for line in command_lines()):
            await trio.lowlevel.checkpoint()


def command_lines():
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            yield path.read_text(errors="replace")


async def test_checks_run_every_interval(autojump_clock, nursery, monkeypatch):
    async def fake(check):
        await trio.sleep(0.3)
        if trio.current_time() > 2:
            raise CheckFailed("no")

    monkeypatch.setattr("galelb.node.checks.probe", fake)
    recorder = Recorder()
    with trio.move_on_after(3.9):
        await run_check(tcp(80, interval=1.0), recorder)

    assert [
        (pytest.approx(0.3), "c", "passed"),
        (pytest.approx(1.3), "c", "passed"),
        (pytest.approx(2.3), "c", "no"),
        (pytest.approx(3.3), "c", "no"),
    ] == recorder.outcomes
