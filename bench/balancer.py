# SPDX-License-Identifier: Apache-2.0
"""A real `galelb run` in a network namespace of a benchmark."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import trio

from bench.machine import RefusedError
from bench.processes import Process, running
from galelb.bpf.bpffs import remove_bpffs
from galelb.datapath.sandbox import NsThread
from galelb.lab.balancer_api import nodes_in_use
from galelb.lab.hosts import Host, Role
from galelb.lab.http_client import FetchError

__all__ = ["balancer", "config_text"]

_NAME = "bench"
_READY_S = 60.0


def config_text(
    plugin: str,
    options: Mapping[str, str],
    *,
    interfaces: tuple[str, str],
    vip: tuple[str, int, str],
    nodes: Sequence[str],
) -> str:
    """Return lb.toml for one service (VIP, port, protocol) and nodes that nobody watches.

    `interfaces`: private, public; `options`: of the plugin, values in TOML.
    """
    private, public = interfaces
    address, port, protocol = vip
    lines = [
        "[private_interface]",
        f'net_interface_private = "{private}"',
        "[public_interface]",
        f'net_interface_public = "{public}"',
        "[node_health]",
        "sources = []",
        "[forwarding]",
        f'plugin = "{plugin}"',
        f"[plugins.{plugin}]" if options else "",
        *(f"{key} = {value}" for key, value in options.items()),
        "[[services]]",
        'name = "bench"',
        f'vip = "{address}"',
        f"port = {port}",
        f'protocol = "{protocol}"',
    ]
    for node in nodes:
        lines += ["[[nodes]]", f'ip = "{node}"']
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def balancer(net: NsThread, text: str, nodes: int) -> Iterator[Process]:
    """Run a balancer with this lb.toml until the block ends; it uses all nodes when it begins.

    Nothing of it stays. Raises RefusedError with what it logged when it does not get ready.
    """
    directory = Path(tempfile.mkdtemp(prefix="galeb-"))
    try:
        config, log = directory / "lb.toml", directory / "log"
        config.write_text(f'[instance]\nname = "{_NAME}"\nrun_dir = "{directory}"\n{text}')
        command = [sys.executable, "-m", "galelb", "run", "--detach-on-exit"]
        with running(net, [*command, "--config", str(config)], log) as process:
            _wait(process, directory, nodes, log)
            yield process
    finally:
        remove_bpffs(directory / _NAME / "bpf")
        shutil.rmtree(directory)


def _wait(process: Process, directory: Path, nodes: int, log: Path) -> None:
    end = time.monotonic() + _READY_S
    host = Host(name=_NAME, role=Role.BALANCER, namespace="", links=(), directory=directory)
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(FetchError):
            used = trio.run(nodes_in_use, host)
            if len(used.routable) == nodes and used.in_tables == (nodes,):
                return
        time.sleep(0.1)
    lines = log.read_text(errors="replace").splitlines()[-20:]
    raise RefusedError("galelb run did not get ready:\n" + "\n".join(lines))
