# SPDX-License-Identifier: Apache-2.0
"""The server of the benchmark `health`: the plugin, and what stands behind it in a balancer."""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
from ipaddress import ip_address
from pathlib import Path

import trio

from galelb.commands.run import collect_seldom
from galelb.config import BalancerConfig, load_balancer_config
from galelb.control.nodes import NodeDesk
from galelb.control.settings import health_settings
from galelb.datapath.limits import MAX_KNOWN_NODES
from galelb.health import NodeHealth
from galelb.logs import configure_logging
from galelb.model import NodeRecord, NodeState
from galelb.plugins import Plugins
from galelb.sources import BalancerContext, HealthSource

ADDRESS = ip_address("127.0.0.1")


class Falls:
    """Counts nodes that fell from routable."""

    def __init__(self) -> None:
        self.count = 0

    def galelb_node_changed(self, old: NodeRecord | None, new: NodeRecord) -> None:
        """Count one change of a node."""
        was = old is not None and old.state is NodeState.ROUTABLE
        self.count += was and new.state is not NodeState.ROUTABLE


def free_port() -> int:
    """Return a port that nobody has now."""
    with socket.socket() as sock:
        sock.bind((str(ADDRESS), 0))
        return int(sock.getsockname()[1])


def load_config(plugins: Plugins) -> BalancerConfig:
    """Return a balancer's configuration with a free node port."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lb.toml"
        path.write_text(
            f"""
            [private_interface]
            net_interface_private = "lo"
            node_port = {free_port()}
            [public_interface]
            net_interface_public = "lo"
            """
        )
        return load_balancer_config(path, plugins)


async def serve() -> None:
    """Serve until standard input is closed; each line on it is answered with what was seen."""
    plugins = Plugins.discover()
    config = load_config(plugins)
    health = NodeHealth(health_settings(config), max_nodes=MAX_KNOWN_NODES)
    falls = Falls()
    desk = NodeDesk(health, plugins, on_change=_nothing, on_join=_ignore, on_leave=_ignore)
    node_changed = plugins.node_changed

    def count(old: NodeRecord | None, new: NodeRecord) -> None:
        falls.galelb_node_changed(old, new)
        node_changed(old, new)

    plugins.node_changed = count  # type: ignore[method-assign]
    context = BalancerContext(
        config=config,
        private_addresses=(ADDRESS,),
        report=desk.report,
        node_gone=desk.lost,
        nodes=health.records,
    )
    source: HealthSource = plugins.health_source("health_grpc")(
        config.plugins["health_grpc"], context
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(desk.run)
        await nursery.start(source.run)
        say({"port": config.private_interface.node_port})
        stdin = trio.lowlevel.FdStream(os.dup(0))
        while await stdin.receive_some(100):
            say({"falls": falls.count, "nodes": len(health.records())})
        nursery.cancel_scope.cancel()


def _nothing() -> None:
    """Take the place of the controller, which would write tables."""


def _ignore(node: object) -> None:
    del node


def say(found: object) -> None:
    """Print one JSON object."""
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    configure_logging("error")
    collect_seldom()
    trio.run(serve)
