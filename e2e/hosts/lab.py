# SPDX-License-Identifier: Apache-2.0
"""Hosts that are network namespaces of a lab of this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator

import trio

from e2e.hosts.model import Client, Hosts, HostsError, Machine
from galelb.lab.hosts import Host, Role
from galelb.lab.lab import build_lab, commands, take_down
from galelb.lab.processes import Process, is_alive, kill, spawn, tail
from galelb.lab.ready import start_lab
from galelb.lab.state import LabState, new_spec
from galelb.lab.topology import nsenter

__all__ = ["lab_hosts"]

BALANCERS = NODES = 3
_KINDS = {Role.BALANCER: "balancer", Role.NODE: "agent"}
_EXPIRY = 'black_list_expiry = "10s"'
_STOP_TIMEOUT_S = 60.0
_POLL_S = 0.05


@contextlib.contextmanager
def lab_hosts() -> Iterator[Hosts]:
    """Have a lab whose daemons run; gone afterwards."""
    state = build_lab(new_spec(balancers=BALANCERS, nodes=NODES))
    try:
        for balancer in state.plan.of(Role.BALANCER):
            _blacklist_soon(balancer)
            _start_decoy(state, balancer)
        trio.run(start_lab, state)
        yield Hosts(
            balancers=[LabMachine(state, one) for one in state.plan.of(Role.BALANCER)],
            nodes=[LabMachine(state, one) for one in state.plan.of(Role.NODE)],
            client=LabClient(state.plan.of(Role.CLIENT)[0]),
        )
    finally:
        take_down(state)


def _blacklist_soon(balancer: Host) -> None:
    """Have nodes blacklisted after few failures, for long enough that a slow machine sees it."""
    assert balancer.config is not None
    text = balancer.config.read_text()
    assert _EXPIRY in text
    soon = 'black_list_expiry = "30s"\nblack_list_after_fails = 2'
    balancer.config.write_text(text.replace(_EXPIRY, soon))


def _start_decoy(state: LabState, balancer: Host) -> None:
    """Have a balancer serve what nodes serve, so that a packet it keeps for itself is noticed.

    The lab does not list it among the balancer's processes, but ends all in its namespaces.
    """
    server = [sys.executable, "-m", "galelb.lab.server", "--name", balancer.name]
    spawn("decoy", nsenter(balancer.namespace, server), balancer.log)


class LabClient(Client):
    """A client of a lab."""

    python = sys.executable

    def __init__(self, host: Host) -> None:
        self.name = host.name
        self._namespace = host.namespace

    def command(self, *argv: str) -> list[str]:
        return nsenter(self._namespace, argv)


class LabMachine(Machine):
    """A balancer or node of a lab; nothing but this class supervises its daemon."""

    python = sys.executable

    def __init__(self, state: LabState, host: Host) -> None:
        self.name = host.name
        self._state = state
        self._host = host
        self._kind = _KINDS[host.role]

    def command(self, *argv: str) -> list[str]:
        return nsenter(self._host.namespace, argv)

    def galelb(self, *words: str) -> list[str]:
        return [self.python, "-m", "galelb", *words, "--config", str(self._host.config)]

    async def start_daemon(self) -> None:
        if not any(map(is_alive, self._daemons)):
            argv = commands(self._state.plan, self._host)[self._kind]
            self._record(spawn(self._kind, self.command(*argv), self._host.log))

    async def stop_daemon(self) -> None:
        for process in self._daemons:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGTERM)
        with trio.move_on_after(_STOP_TIMEOUT_S):
            while any(map(is_alive, self._daemons)):
                await trio.sleep(_POLL_S)
        if any(map(is_alive, self._daemons)):
            raise HostsError(f"{self.name}: the {self._kind} does not end: {await self.log()}")
        kill(self._daemons)  # collects what has ended
        self._record()

    async def kill_daemon(self) -> None:
        kill(self._daemons)
        await self.start_daemon()

    async def log(self) -> str:
        return tail(self._host.log)

    async def answers_as(self) -> str:
        return self.name

    @property
    def _daemons(self) -> list[Process]:
        return [one for one in self._state.processes[self.name] if one.kind == self._kind]

    def _record(self, *daemons: Process) -> None:
        others = [one for one in self._state.processes[self.name] if one.kind != self._kind]
        self._state.processes[self.name] = [*others, *daemons]
        self._state.save()
