# SPDX-License-Identifier: Apache-2.0
"""A `galelb run` that is timed: when it logs what, what it uses, what it forwards."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from bench.control_world import PORT, PRIVATE, PUBLIC, VIP, Network, packet_socket
from bench.machine import RefusedError
from galelb.bpf.bpffs import remove_bpffs
from galelb.client import ApiClient
from galelb.testing.packets import frame

__all__ = ["INSTANCE", "Daemon", "Probes", "daemon", "remove_instance"]

INSTANCE = "default"
_MARK = b"galelb bench"
_CLIENT = "100.64.0.1"
_PERIOD_S = 0.001
_ALL = 3  # ETH_P_ALL
_READY_S = 60.0
_STOP_S = 20.0


class Probes:
    """Packets of a client, one each millisecond, and when those that arrive at nodes do.

    Times are those of time.perf_counter. A context manager; it ends with the block.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self.sent = 0
        self.arrived: list[tuple[int, float]] = []
        """Number of the packet, and when it came."""

    def __enter__(self) -> Probes:
        clients = self._network.clients.run(packet_socket, f"{PUBLIC}x")
        nodes = self._network.nodes.run(lambda: packet_socket(f"{PRIVATE}x", protocol=_ALL))
        for work, sock in ((self._send, clients), (self._receive, nodes)):
            thread = threading.Thread(target=work, args=(sock,), daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _send(self, sock: socket.socket) -> None:
        made = frame(_CLIENT, VIP, 40000, PORT, payload=_MARK + bytes(4))[:-4]
        with sock:
            while not self._over.wait(_PERIOD_S):
                sock.send(made + struct.pack("!I", self.sent))
                self.sent += 1

    def _receive(self, sock: socket.socket) -> None:
        with sock:
            sock.settimeout(0.1)
            while not self._over.is_set():
                with contextlib.suppress(TimeoutError):
                    data = sock.recv(2048)
                    at = data.find(_MARK) + len(_MARK)
                    if at >= len(_MARK):
                        now = time.perf_counter()
                        self.arrived.append((struct.unpack_from("!I", data, at)[0], now))

    def first_after(self, began: float) -> float:
        """Return when the first packet arrived after this time; waits for it."""
        end = time.perf_counter() + _READY_S
        while time.perf_counter() < end:
            for _, when in self.arrived:
                if when > began:
                    return when
            time.sleep(0.02)
        raise RefusedError("nothing was forwarded")


class Daemon:
    """One process of `galelb run`, started when this is made."""

    def __init__(self, network: Network, config: Path, caches: Path) -> None:
        self.directory = config.parent / INSTANCE
        environment = os.environ | {
            "CACHE_DIRECTORY": str(caches / "cache"),
            "STATE_DIRECTORY": str(caches / "state"),
        }
        command = [sys.executable, "-m", "galelb", "run", "--log-json", "--config", str(config)]
        self.events: dict[str, float] = {}
        """When it first logged what."""
        self.warnings: list[str] = []
        self.began = time.perf_counter()
        self.process: subprocess.Popen[str] = network.sandbox.run(
            lambda: subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for text in self.process.stderr:
            now = time.perf_counter()
            try:
                line = json.loads(text)
            except ValueError:
                line = {"event": text.strip(), "level": "error"}
            self.events.setdefault(line["event"], now)
            if line["level"] != "info" and len(self.warnings) < 100:
                self.warnings.append(text.strip())

    def wait(self, event: str) -> float:
        """Return the seconds from the start until it logged this; waits for it."""
        end = time.perf_counter() + _READY_S
        while event not in self.events:
            if time.perf_counter() > end or self.process.poll() is not None:
                raise RefusedError("\n".join([f"galelb run: no {event}", *self.warnings[-20:]]))
            time.sleep(0.005)
        return self.events[event] - self.began

    def stop(self) -> None:
        """End it; what it attached stays."""
        self.process.terminate()
        try:
            self.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join()

    def memory(self) -> dict[str, float]:
        """Return its resident memory in MB, at most and now; `own` is without files and maps.

        Pages of the kernel's maps that it has mapped count as resident.
        """
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in text.splitlines())
        kinds = {"most": "VmHWM", "now": "VmRSS", "own": "RssAnon"}
        return {kind: round(int(fields[one].split()[0]) / 1024, 1) for kind, one in kinds.items()}

    def client(self) -> ApiClient:
        """Return a client for its API."""
        return ApiClient(self.directory / "api.sock")

    def in_tables(self) -> int:
        """Return how many nodes are in the table of every service."""
        with self.client() as client:
            services = client.get("services")["services"]
        return int(min(service["routable_nodes"] for service in services))

    def wait_for_nodes(self, count: int) -> float:
        """Return when so many nodes were in all tables, by time.perf_counter; waits for it."""
        end = time.perf_counter() + _READY_S
        while (found := self.in_tables()) != count:
            if time.perf_counter() > end or self.process.poll() is not None:
                raise RefusedError(f"only {found} of {count} nodes are in the tables")
            time.sleep(0.05)
        return time.perf_counter()

    def metrics(self) -> Mapping[str, float]:
        """Return what it counted, by name with labels."""
        transport = httpx.HTTPTransport(uds=str(self.directory / "api.sock"))
        with httpx.Client(transport=transport, base_url="http://galelb") as client:
            lines = client.get("/metrics").text.splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}


@contextlib.contextmanager
def daemon(network: Network, config: Path, caches: Path) -> Iterator[Daemon]:
    """Run a balancer until the block ends; what it attached and pinned stays."""
    one = Daemon(network, config, caches)
    try:
        yield one
    finally:
        one.stop()


def remove_instance(network: Network, config: Path) -> None:
    """Detach and remove what daemons with this configuration left."""
    command = [sys.executable, "-m", "galelb", "detach", "--config", str(config)]
    done: subprocess.CompletedProcess[Any] = network.sandbox.run(
        lambda: subprocess.run(command, capture_output=True, check=False)
    )
    remove_bpffs(config.parent / INSTANCE / "bpf")
    if done.returncode != 0:
        raise RefusedError(f"galelb detach: {done.stderr.decode(errors='replace')}")
