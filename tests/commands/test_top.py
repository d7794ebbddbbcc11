# SPDX-License-Identifier: Apache-2.0
"""`galelb top` on a terminal of its own, asking a real server with a fake balancer behind it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner
from structlog.testing import capture_logs

from galelb.api.listen import SOCKET_FILE
from galelb.api.server import ApiServer
from galelb.api.view import Status
from galelb.commands.top import top_command
from galelb.errors import ApiError
from galelb.testing.fakes import FakeBalancer

COMMAND = [sys.executable, "-m", "galelb", "top", "--interval", "0.2", "--api"]
LEAVES = "\x1b[?1049l"
"""What gives a terminal its former content back."""


class Screen:
    """A process on a pseudo-terminal, and what it has written there."""

    def __init__(self, api: str, rows: int = 24, columns: int = 80) -> None:
        self._fd, terminal = pty.openpty()
        self.before = termios.tcgetattr(self._fd)
        self.resize(rows, columns)
        environ = os.environ | {"TERM": "xterm-256color", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
        environ.pop("COLUMNS", None)
        environ.pop("LINES", None)
        self.process = subprocess.Popen(
            [*COMMAND, api],
            stdin=terminal,
            stdout=terminal,
            stderr=subprocess.PIPE,
            env=environ,
            start_new_session=True,
            # So that a new size is told to it.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(terminal)
        self.output = ""

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def press(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def lines(self) -> list[str]:
        """Return the last whole picture: only the start of the next one tells that it is whole."""
        pictures = self.output.split("\x1b[H")
        last = pictures[-2] if len(pictures) > 1 else ""
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", last)
        return [line.rstrip() for line in plain.split("\n")]

    def until(self, seen: Callable[[list[str]], bool]) -> list[str]:
        """Read until the screen is as wanted; pytest's time-out bounds it."""
        while not seen(self.lines()):
            select.select([self._fd], [], [])
            self.output += os.read(self._fd, 65536).decode(errors="replace")
        return self.lines()

    def rest(self) -> str:
        """Return all that was written up to its end, once it has ended."""
        while True:
            try:
                self.output += os.read(self._fd, 65536).decode(errors="replace")
            except OSError:  # EIO: nobody has the other end any more
                return self.output

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        os.close(self._fd)


class Hanging(FakeBalancer):
    """A balancer that may stop answering."""

    hangs = False

    async def status(self) -> Status:
        if self.hangs:
            await trio.sleep_forever()
        return await super().status()


@pytest.fixture
def balancer() -> Hanging:
    return Hanging()


@pytest.fixture
def api(tmp_path: Path) -> str:
    return f"unix:{tmp_path / SOCKET_FILE}"


@pytest.fixture
def screens(api: str) -> Iterator[Callable[..., Screen]]:
    made: list[Screen] = []

    def make(**size: int) -> Screen:
        made.append(Screen(api, **size))
        return made[-1]

    yield make
    for screen in made:
        screen.close()


@pytest.fixture
async def serve(balancer: FakeBalancer, tmp_path: Path, nursery: trio.Nursery) -> trio.CancelScope:
    """Serve the balancer until the scope is cancelled."""
    return await _serve(balancer, tmp_path, nursery)


async def _serve(balancer: FakeBalancer, folder: Path, nursery: trio.Nursery) -> trio.CancelScope:
    server = ApiServer(balancer, addresses=(), port=5555, directory=folder)
    scope = trio.CancelScope()

    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        with scope, capture_logs():
            await server.run(task_status=task_status)

    await nursery.start(run)
    return scope


def first_line(text: str) -> Callable[[list[str]], bool]:
    return lambda lines: lines[0].startswith(text)


async def in_thread(function: Callable[..., object], *arguments: object) -> object:
    return await trio.to_thread.run_sync(partial(function, *arguments))


async def test_a_picture_fills_the_terminal_and_q_gives_it_back(
    serve: trio.CancelScope, screens: Callable[..., Screen]
) -> None:
    screen = screens()
    lines = await in_thread(screen.until, lambda lines: any("bit/s" in line for line in lines))
    screen.press("q")
    code = await in_thread(screen.process.wait)
    output = screen.rest()

    assert isinstance(lines, list)
    assert lines[0].startswith("Forwarding")
    assert 24 >= len(lines)
    assert any(line.startswith("web-2  draining") for line in lines)
    assert 0 == code
    assert output.endswith(LEAVES)
    assert "\x1b[2J" not in output  # clearing would flicker
    assert screen.before == termios.tcgetattr(screen._fd)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signals_give_the_terminal_back_too(
    serve: trio.CancelScope, screens: Callable[..., Screen], number: signal.Signals
) -> None:
    screen = screens()
    await in_thread(screen.until, first_line("Forwarding"))
    screen.process.send_signal(number)

    assert 0 == await in_thread(screen.process.wait)
    assert screen.rest().endswith(LEAVES)
    assert screen.before == termios.tcgetattr(screen._fd)


async def test_it_follows_the_size_of_the_terminal(
    serve: trio.CancelScope, screens: Callable[..., Screen]
) -> None:
    screen = screens(rows=24, columns=80)
    await in_thread(screen.until, first_line("Forwarding"))
    screen.resize(12, 40)

    def fits(lines: list[str]) -> bool:
        return len(lines) == 12 and any("…" in line for line in lines)

    lines = await in_thread(screen.until, fits)
    assert isinstance(lines, list)
    assert all(len(line) <= 40 for line in lines)


async def test_a_balancer_that_goes_away_is_asked_until_it_is_back(
    serve: trio.CancelScope,
    screens: Callable[..., Screen],
    balancer: FakeBalancer,
    tmp_path: Path,
    nursery: trio.Nursery,
) -> None:
    screen = screens()
    await in_thread(screen.until, first_line("Forwarding"))
    serve.cancel()
    gone = await in_thread(screen.until, first_line("No answer, trying again: no balancer"))
    await _serve(balancer, tmp_path, nursery)
    await in_thread(screen.until, first_line("Forwarding"))

    assert isinstance(gone, list)
    assert any(line.startswith("web-1") for line in gone)


async def test_a_balancer_that_hangs_does_not_hold_up_the_keys(
    serve: trio.CancelScope, screens: Callable[..., Screen], balancer: Hanging
) -> None:
    screen = screens()
    await in_thread(screen.until, first_line("Forwarding"))
    balancer.hangs = True
    await in_thread(screen.until, first_line("No answer, trying again: no answer for"))
    screen.press("q")

    assert 0 == await in_thread(screen.process.wait)


async def test_once_prints_one_picture(
    serve: trio.CancelScope, api: str, balancer: FakeBalancer
) -> None:
    arguments = ["--once", "--interval", "0.2", "--api", api]
    with capture_logs():
        result = await trio.to_thread.run_sync(CliRunner().invoke, top_command, arguments)

    lines = result.output.splitlines()
    assert (0, "Forwarding") == (result.exit_code, lines[0])
    assert any(re.match(r"web-1 +routable +1 +0/s +0bit/s +\S$", line) for line in lines), lines
    assert "\x1b" not in result.output


def test_without_a_terminal_once_is_needed(api: str) -> None:
    result = CliRunner().invoke(top_command, ["--api", api])

    assert 2 == result.exit_code
    assert "--once" in result.output


def test_a_balancer_that_was_never_there_is_an_error(api: str) -> None:
    result = CliRunner().invoke(top_command, ["--once", "--api", api])

    assert isinstance(result.exception, ApiError)
