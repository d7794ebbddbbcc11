# SPDX-License-Identifier: Apache-2.0
"""Hosts that an inventory names: reached by ssh, their daemons kept by systemd."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from e2e.hosts.inventory import Inventory, Place
from e2e.hosts.model import Client, CommandError, Hosts, Machine

__all__ = ["LocalClient", "Ssh", "SshClient", "UnitMachine", "inventory_hosts"]

BALANCER_UNIT = "galelb.service"
NODE_UNIT = "galelb-node.service"

_CONNECT_TIMEOUT_S = 20
_CLOSE_TIMEOUT_S = 10
_LOG_LINES = 20


@contextlib.contextmanager
def inventory_hosts(inventory: Inventory) -> Iterator[Hosts]:
    """Have what the inventory names; connections to it are closed afterwards."""
    # Not pytest's own folder: the path of a unix socket has to be short.
    with tempfile.TemporaryDirectory(prefix="galelb-") as folder, contextlib.ExitStack() as open_:

        def entered(place: Place) -> Ssh:
            ssh = Ssh(place, Path(folder))
            open_.callback(ssh.close)
            return ssh

        client = inventory.client
        yield Hosts(
            balancers=[UnitMachine(entered(one), BALANCER_UNIT) for one in inventory.balancers],
            nodes=[UnitMachine(entered(one), NODE_UNIT) for one in inventory.nodes],
            client=SshClient(entered(client)) if client else LocalClient(),
        )


class Ssh:
    """One connection to a machine, over which all commands go."""

    def __init__(self, place: Place, folder: Path) -> None:
        self.name = place.name
        self._place = place
        self._socket = folder / "%C"

    def command(self, *argv: str) -> list[str]:
        """Return the command that runs `argv` there as root."""
        become = [] if self._place.user == "root" else ["sudo", "-n", "--"]
        return [*self._words(), "--", self._place.host, shlex.join([*become, *argv])]

    def close(self) -> None:
        """End the connection; fine when there is none."""
        command = [*self._words(), "-O", "exit", "--", self._place.host]
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(command, capture_output=True, timeout=_CLOSE_TIMEOUT_S, check=False)

    def _words(self) -> list[str]:
        place = self._place
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": str(_CONNECT_TIMEOUT_S),
            "ControlMaster": "auto",
            "ControlPath": str(self._socket),
            "ControlPersist": "60",
            "ServerAliveInterval": "10",
        }
        words = ["ssh", *place.options, *(f"-o{key}={value}" for key, value in options.items())]
        if place.user:
            words += ["-l", place.user]
        if place.port is not None:
            words += ["-p", str(place.port)]
        return words + (["-i", place.key_file] if place.key_file else [])


class SshClient(Client):
    """A machine of group `client`."""

    python = "python3"

    def __init__(self, ssh: Ssh) -> None:
        self.name = ssh.name
        self._ssh = ssh

    def command(self, *argv: str) -> list[str]:
        return self._ssh.command(*argv)


class LocalClient(Client):
    """The machine that runs the tests."""

    name = "this machine"
    python = sys.executable

    def command(self, *argv: str) -> list[str]:
        return list(argv)


class UnitMachine(Machine):
    """A machine whose daemon is a unit of systemd."""

    python = "python3"

    def __init__(self, ssh: Ssh, unit: str) -> None:
        self.name = ssh.name
        self._ssh = ssh
        self._unit = unit
        self._hostname = ""

    def command(self, *argv: str) -> list[str]:
        return self._ssh.command(*argv)

    def galelb(self, *words: str) -> list[str]:
        return ["galelb", *words]

    async def start_daemon(self) -> None:
        await self._forgive()
        await self.run("systemctl", "start", "--no-block", self._unit)

    async def stop_daemon(self) -> None:
        await self.run("systemctl", "stop", self._unit)

    async def restart_daemon(self) -> None:
        await self.run("systemctl", "restart", self._unit)

    async def kill_daemon(self) -> None:
        await self._forgive()
        await self.run("systemctl", "kill", "--kill-who=main", "--signal=KILL", self._unit)

    async def _forgive(self) -> None:
        """Have systemd forget earlier starts: scenarios start a daemon more often than its unit
        may allow within a time."""
        with contextlib.suppress(CommandError):  # a unit that systemd has no record of
            await self.run("systemctl", "reset-failed", self._unit)

    async def log(self) -> str:
        lines = ("--no-pager", "--lines", str(_LOG_LINES), "--unit", self._unit)
        return await self.run("journalctl", *lines)

    async def answers_as(self) -> str:
        if not self._hostname:
            self._hostname = (await self.run("hostname")).strip()
        return self._hostname
