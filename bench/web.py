# SPDX-License-Identifier: Apache-2.0
"""The network of the benchmark `http`: a client, a balancer and three web servers at one switch."""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import attrs

from bench.machine import RefusedError
from bench.processes import running
from galelb.datapath.sandbox import NsThread, Sandbox

__all__ = ["DEVICE", "NODES", "PORT", "VIP", "Answers", "Web"]

DEVICE, PORT = "eth0", 8080
BALANCER, CLIENT, VIP = "10.0.0.1", "10.0.0.201", "10.0.0.100"
NODES = ("10.0.0.11", "10.0.0.12", "10.0.0.13")
_BRIDGE = "br0"
_START_S = 10.0
_TIMEOUT_S = 2.0
_COUNTS = re.compile(r"\n (\d+) (\d+) (\d+) \n")  # connections accepted and handled, requests
# A node holds the VIP for those who forward packets to it as they are, and is silent about it.
_NODE_SYSCTLS = ("net.ipv4.conf.all.arp_ignore=1", "net.ipv4.conf.all.arp_announce=2")


@attrs.frozen(kw_only=True)
class Answers:
    """What wrk saw in one run."""

    requests: int
    duration_us: int
    failed: int
    p50_us: int
    p99_us: int


class Web:
    """The network with its servers running; a context manager, all gone afterwards."""

    def __init__(self) -> None:
        self.balancer: NsThread
        self.directory = Path()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Web:
        with contextlib.ExitStack() as stack:
            name = stack.enter_context(tempfile.TemporaryDirectory(prefix="galeb-"))
            self.directory = Path(name)
            sandbox = stack.enter_context(Sandbox())
            sandbox.command("ip", "link", "add", _BRIDGE, "type", "bridge", "mcast_snooping", "0")
            sandbox.command("ip", "link", "set", _BRIDGE, "up")
            self.balancer = _host(sandbox, "lb", (f"{BALANCER}/24", f"{VIP}/24"))
            self._client = _host(sandbox, "client", (f"{CLIENT}/24",))
            self.balancer.command("sysctl", "-qw", "net.ipv4.ip_forward=1")
            _ports(self._client)
            for number, address in enumerate(NODES, 1):
                self._serve(sandbox, stack, f"node{number}", address)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _serve(
        self, sandbox: Sandbox, stack: contextlib.ExitStack, name: str, address: str
    ) -> None:
        net = _host(sandbox, name, (f"{address}/24",))
        net.command("sysctl", "-qw", *_NODE_SYSCTLS)
        net.command("ip", "address", "add", f"{VIP}/32", "dev", "lo")
        argv, log = nginx(self.directory / name, _server(name))
        stack.enter_context(running(net, argv, log))
        self.wait(address, log)

    def wait(self, address: str, log: Path) -> None:
        """Return once the address answers clients; RefusedError with the log otherwise."""
        end = time.monotonic() + _START_S
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                self.fetch(f"http://{address}:{PORT}/")
                return
            time.sleep(0.05)
        raise RefusedError(f"{address} does not answer:\n{log.read_text(errors='replace')[-2000:]}")

    def fetch(self, url: str) -> str:
        """Return what a client gets; OSError when it gets nothing."""
        return self._client.run(_fetch, url)

    def served(self) -> list[tuple[int, int]]:
        """Return connections and requests that each node has had."""
        found = []
        for node in NODES:
            match = _COUNTS.search(self.fetch(f"http://{node}:{PORT}/status"))
            if match is None:
                raise RefusedError(f"{node} does not tell what it has served")
            found.append((int(match[1]), int(match[3])))
        return found

    def wrk(
        self, addresses: Sequence[str], seconds: float, connections: int, *, close: bool
    ) -> Answers:
        """Send requests one after the other on each connection, or one on each with `close`.

        One thread for each node, whose addresses are these, in turn.
        """
        script = Path(__file__).with_name("wrk.lua")
        argv = ["env", f"BENCH_TO={' '.join(addresses)}", f"BENCH_PORT={PORT}", "wrk"]
        argv += [f"-t{len(NODES)}", f"-c{connections}", f"-d{seconds:g}s", "-s", str(script)]
        argv += ["-H", "Connection: close"] if close else []
        text = self._client.command(*argv, f"http://{addresses[0]}:{PORT}/")
        return Answers(**json.loads(text.strip().splitlines()[-1]))


def nginx(directory: Path, text: str) -> tuple[list[str], Path]:
    """Write nginx.conf with the text at its end; return how to run it, and its log."""
    directory.mkdir(exist_ok=True)
    config = directory / "nginx.conf"
    config.write_text(f"daemon off;\nuser root;\npid {directory}/pid;\nerror_log stderr;\n{text}")
    return ["nginx", "-p", str(directory), "-e", "stderr", "-c", str(config)], directory / "log"


def _server(name: str) -> str:
    folders = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"\t{folder}_temp_path {folder};\n" for folder in folders)
    return f"""
worker_processes 1;
events {{ worker_connections 8192; }}
http {{
{temporary}	access_log off;
	keepalive_requests 100000000;
	server {{
		listen {PORT} backlog=4096;
		location / {{ return 200 "{name}\\n"; }}
		location /status {{ stub_status; }}
	}}
}}
"""


def _host(sandbox: Sandbox, name: str, addresses: Sequence[str]) -> NsThread:
    """Connect one more namespace to the switch."""
    net = sandbox.namespace()
    sandbox.veth(name, DEVICE, other=net)
    sandbox.command("ip", "link", "set", name, "master", _BRIDGE)
    for address in addresses:
        net.command("ip", "address", "add", address, "dev", DEVICE)
    # What XDP needs of veth (galelb doctor says so); the same for everybody.
    for home, device in ((sandbox.net, name), (net, DEVICE)):
        home.command("ethtool", "-K", device, "tx", "off", "gro", "on")
    return net


def _ports(net: NsThread) -> None:
    """One client stands for many."""
    net.command("sysctl", "-qw", "net.ipv4.ip_local_port_range=10000 65000")


def _fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:
        text: str = answer.read().decode()
        return text
