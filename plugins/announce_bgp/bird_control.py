# SPDX-License-Identifier: Apache-2.0
"""Talks to bird through its control socket: numbered lines, as birdc does."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import attrs
import trio
from trio.abc import Stream

from galelb.errors import GaleError

__all__ = ["Bird", "BirdError", "Protocols", "open_bird", "parse_protocols"]

_MOST_BYTES = 4 << 20
"""Of one answer: tens of thousands of protocols."""
_READ = 1 << 16
_LINE = re.compile(rb"(\d{4})([ -])(.*)", re.DOTALL)
_FIRST_ERROR = 8000
_GREETING = 1
_TAKEN = {3, 4, 5}
"""Reconfigured; in progress; queued behind another one."""


class BirdError(GaleError):
    """Bird is not there, does not answer, or refuses."""


@attrs.frozen(kw_only=True)
class Protocols:
    """What bird runs, as far as it matters here."""

    ours: frozenset[str]
    """Names of those for VIPs."""
    sessions: tuple[tuple[str, bool], ...]
    """Each BGP protocol by name, and whether its session is established."""


class Bird:
    """A connection to bird's control socket; one command at a time."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._lines: list[bytes] = []
        """Whole lines that were read, the next one last."""
        self._data = b""

    async def greeting(self) -> None:
        """Read what bird says first. Raises BirdError if it is not bird."""
        if (await self._answer())[-1][0] != _GREETING:
            raise BirdError("what answers at the control socket is not bird")

    async def configure(self) -> None:
        """Have bird read its configuration again.

        Raises BirdError when it refuses: then it goes on with the former one.
        """
        code, text = (await self.command("configure"))[-1]
        if code not in _TAKEN:
            raise BirdError(f"bird does not take its configuration: {text}")

    async def protocols(self) -> Protocols:
        """Return what bird runs."""
        return parse_protocols([text for _, text in await self.command("show protocols")])

    async def command(self, text: str) -> list[tuple[int, str]]:
        """Return the lines of the answer, each with its code. Raises BirdError."""
        try:
            await self._stream.send_all(text.encode() + b"\n")
        except trio.BrokenResourceError:
            raise BirdError("bird closed the control socket") from None
        return await self._answer()

    async def _answer(self) -> list[tuple[int, str]]:
        lines: list[tuple[int, str]] = []
        left, code = _MOST_BYTES, 0
        while True:
            line = await self._line()
            left -= len(line)
            if left < 0:
                raise BirdError("bird's answer is too long")
            match = _LINE.fullmatch(line)
            rest = match[3] if match else line[1:]  # without a code it goes on with the last one
            code = int(match[1]) if match else code
            lines.append((code, rest.decode("utf-8", "replace")))
            if match and match[2] == b" ":
                return self._checked(lines)

    @staticmethod
    def _checked(lines: list[tuple[int, str]]) -> list[tuple[int, str]]:
        code, text = lines[-1]
        if code >= _FIRST_ERROR:
            raise BirdError(f"bird refuses: {text}")
        return lines

    async def _line(self) -> bytes:
        while not self._lines:
            if len(self._data) > _READ:
                raise BirdError("bird's answer is too long")
            try:
                part = await self._stream.receive_some(_READ)
            except trio.BrokenResourceError:
                part = b""
            if not part:
                raise BirdError("bird closed the control socket")
            *lines, self._data = (self._data + part).split(b"\n")
            self._lines = lines[::-1]
        return self._lines.pop()


@contextlib.asynccontextmanager
async def open_bird(socket: Path) -> AsyncIterator[Bird]:
    """Connect to bird; at the end disconnect. Raises BirdError."""
    try:
        stream = await trio.open_unix_socket(str(socket))
    except OSError as error:
        raise BirdError(f"bird's control socket {socket}: {error.strerror or error}") from None
    async with stream:
        bird = Bird(stream)
        await bird.greeting()
        yield bird


def parse_protocols(lines: Sequence[str]) -> Protocols:
    """Return what the table of `show protocols` says; rows that cannot be read are skipped."""
    rows = [row for row in (line.split() for line in lines) if len(row) >= 4]
    return Protocols(
        ours=frozenset(r[0] for r in rows if r[1] == "Direct" and r[0].startswith("galelb_")),
        sessions=tuple((r[0], r[-1] == "Established") for r in rows if r[1] == "BGP"),
    )
