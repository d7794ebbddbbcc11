# SPDX-License-Identifier: Apache-2.0
"""The hosts of a scenario: machines that run commands, and whatever runs galelb on them.

Scenarios know only what is here, so the same ones run in a lab and on real machines.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import attrs
import trio

from galelb.errors import GaleError

__all__ = ["Client", "CommandError", "Hosts", "HostsError", "Machine"]

_COMMAND_TIMEOUT_S = 180.0
"""Generous: a unit is restarted when the daemon has compiled its programs."""


class HostsError(GaleError):
    """The hosts cannot be used, or are not what a scenario needs."""


class CommandError(HostsError):
    """A command failed on a machine."""


class Client(ABC):
    """A machine that can run commands."""

    name: str
    python: str
    """The interpreter there."""

    @abstractmethod
    def command(self, *argv: str) -> list[str]:
        """Return the command here that runs `argv` there."""

    async def run(self, *argv: str) -> str:
        """Run a command to its end and return what it printed.

        Raises CommandError that quotes what it said when it fails or does not end.
        """
        words = " ".join(argv)
        try:
            with trio.fail_after(_COMMAND_TIMEOUT_S):
                done = await trio.run_process(
                    self.command(*argv), capture_stdout=True, capture_stderr=True, check=False
                )
        except trio.TooSlowError:
            late = f"no end after {_COMMAND_TIMEOUT_S:g} s"
            raise CommandError(f"{self.name}: {words}: {late}") from None
        if done.returncode:
            said = (done.stderr or done.stdout).decode(errors="replace").strip()
            raise CommandError(f"{self.name}: {words}: exit code {done.returncode}: {said}")
        return done.stdout.decode()


class Machine(Client):
    """A balancer or a node: a machine whose daemon is `galelb run` or `galelb node`."""

    _addresses: frozenset[str] | None = None

    @abstractmethod
    def galelb(self, *words: str) -> list[str]:
        """Return the words of a galelb command about this machine's daemon."""

    @abstractmethod
    async def start_daemon(self) -> None:
        """Start the daemon; fine when it runs. Returns before it is ready."""

    @abstractmethod
    async def stop_daemon(self) -> None:
        """Have the daemon end in its own time, and stay ended until it is started."""

    @abstractmethod
    async def kill_daemon(self) -> None:
        """Kill (-9) the daemon. As real machines do, something starts it again at once."""

    @abstractmethod
    async def log(self) -> str:
        """Return the last lines that the daemon logged."""

    @abstractmethod
    async def answers_as(self) -> str:
        """Return what the application of this machine calls itself in its answers."""

    async def restart_daemon(self) -> None:
        """Have the daemon end in its own time, and start it again."""
        await self.stop_daemon()
        await self.start_daemon()

    async def ask(self, *words: str) -> Any:
        """Run a galelb command with --json; returns what it says."""
        return json.loads(await self.run(*self.galelb(*words, "--json")))

    async def addresses(self) -> frozenset[str]:
        """Return the addresses that its interfaces had when they were first asked for."""
        if self._addresses is None:
            links = json.loads(await self.run("ip", "-json", "address", "show"))
            self._addresses = frozenset(
                one["local"]
                for link in links
                if "LOOPBACK" not in link["flags"]
                for one in link["addr_info"]
                if one["scope"] == "global"
            )
        return self._addresses


@attrs.frozen
class Hosts:
    """All that a scenario has."""

    balancers: Sequence[Machine]
    nodes: Sequence[Machine]
    client: Client
    """Where requests come from."""

    @property
    def machines(self) -> Sequence[Machine]:
        """Balancers and nodes."""
        return [*self.balancers, *self.nodes]
