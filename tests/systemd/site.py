# SPDX-License-Identifier: Apache-2.0
"""A balancer and a node under systemd, and clients that count what they see."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

from galelb.lab.jobs import Held, Job, Requests, Result, jobs_to_json
from tests.machines.group import Machines
from tests.machines.machine import Machine

__all__ = ["VIP", "Clients", "Site", "lb_toml", "until"]

ROOT = Path(__file__).parents[2]
VIP = "10.77.0.100"
UNITS = "/etc/systemd/system"
_PATIENCE_S = 90

NODE_TOML = """
[load_balancer]
addresses = [ { ip = "10.77.0.11" } ]

[[checks]]
name = "web"
type = "http"
url = "http://127.0.0.1:8080/health"
"""


def lb_toml(*, ports: tuple[int, ...] = (80,), forwarder: str = "l4_nat") -> str:
    """Return a balancer's file; forwarders whose nodes answer themselves keep the port."""
    lines = [
        "[private_interface]",
        'net_interface_private = "eth0"',
        "[public_interface]",
        'net_interface_public = "eth0"',
        "[forwarding]",
        f'plugin = "{forwarder}"',
    ]
    for port in ports:
        lines += ["[[services]]", f'name = "web-{port}"', f'vip = "{VIP}"', f"port = {port}"]
        if forwarder == "l4_nat":
            lines.append("target_port = 8080")
    return "\n".join(lines) + "\n"


def until(holds: Callable[[], object], what: str) -> None:
    """Wait until something holds; how long that takes is nobody's promise here."""
    end = time.monotonic() + _PATIENCE_S
    while not holds():
        assert time.monotonic() < end, f"not so within {_PATIENCE_S} s: {what}"
        time.sleep(0.1)


class Clients:
    """Load that runs until `end`, which returns what became of each request."""

    def __init__(self, command: list[str]) -> None:
        # A pipe that nobody reads would fill up and stop the load.
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - `kill` closes it
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=self._said)

    def end(self) -> list[Result]:
        """Let running requests finish and return all results."""
        self._process.communicate(timeout=_PATIENCE_S)
        return self._results()

    def wait(self, count: int) -> None:
        """Wait for so many more results."""
        wanted = len(self._results()) + count
        until(lambda: len(self._results()) >= wanted, f"{count} results of clients")

    def kill(self) -> None:
        """End it in any case."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._said.close()

    def _results(self) -> list[Result]:
        size = os.fstat(self._said.fileno()).st_size
        lines = os.pread(self._said.fileno(), size, 0).split(b"\n")
        return [Result.from_json(line) for line in lines[:-1]]


@attrs.frozen
class Site:
    """The machines lb-0 and node-0."""

    found: Machines

    @property
    def lb(self) -> Machine:
        return self.found["lb-0"]

    @property
    def node(self) -> Machine:
        return self.found["node-0"]

    def set_up(self) -> None:
        """Install units and configurations; nothing is started but what the node serves."""
        self.lb.run("ip", "address", "add", f"{VIP}/32", "dev", "eth0")
        for machine in (self.lb, self.node):
            machine.put(ROOT / "systemd", UNITS)
            machine.run("systemctl", "daemon-reload")
        self.lb.write("/etc/galelb/lb.toml", lb_toml())
        self.node.write("/etc/galelb/node.toml", NODE_TOML)
        serve = ["/opt/galelb/bin/python3", "-m", "galelb.lab.server", "--name", "node-0"]
        self.node.run("systemd-run", "--quiet", "--unit=web", *serve, "--http-port", "8080")

    def start(self) -> None:
        """Start both, and wait until a request is answered."""
        self.lb.run("systemctl", "start", "galelb")
        self.node.run("systemctl", "start", "galelb-node")
        self.wait_answer()

    def wait_answer(self, port: int = 80) -> None:
        """Wait until the service answers a client."""
        until(lambda: self.ask(port), f"an answer at port {port}:\n{self.journal()}")

    def ask(self, port: int = 80) -> bool:
        """Return whether one request is answered."""
        url = f"http://{VIP}:{port}/"
        command = ["curl", "-sS", "-o", "/dev/null", "--max-time", "5", url]
        done = subprocess.run(self.found.network.inside(command), capture_output=True, check=False)
        return done.returncode == 0

    @contextlib.contextmanager
    def clients(self, *jobs: Job) -> Iterator[Clients]:
        """Run load from beside the machines."""
        argv = [sys.executable, "-m", "galelb.lab.load", jobs_to_json(list(jobs))]
        clients = Clients(self.found.network.inside(argv))
        try:
            yield clients
        finally:
            clients.kill()

    def requests(self, port: int = 80) -> Requests:
        """200 requests a second, each on a connection of its own, and some on kept ones."""
        target = {"address": VIP, "port": port}
        return Requests(targets=[target], fresh=14, pause_s=0.05, kept=4, kept_pause_s=0.2)

    def held(self, seconds: float) -> Held:
        """Connections that stay open and are used all the time."""
        target = {"address": VIP, "port": 80}
        return Held(targets=[target], connections=20, duration_s=seconds, every_s=0.5)

    def show(self, machine: Machine, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return machine.run("systemctl", "show", "--value", "-p", name, unit).strip()

    def pid(self, machine: Machine, unit: str) -> int:
        """Return the main process of a unit as its machine counts; 0 = none."""
        return int(self.show(machine, unit, "MainPID"))

    def journal(self, unit: str = "galelb", machine: Machine | None = None) -> str:
        """Return a unit's journal as text."""
        one = machine or self.lb
        return one.run("journalctl", "--no-pager", "-o", "cat", "-u", unit)

    def entries(self, unit: str = "galelb") -> list[dict[str, str]]:
        """Return the balancer's journal, a mapping for each line."""
        text = self.lb.run("journalctl", "--no-pager", "-o", "json", "-u", unit)
        return [json.loads(line) for line in text.splitlines()]
