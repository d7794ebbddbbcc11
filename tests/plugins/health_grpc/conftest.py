# SPDX-License-Identifier: Apache-2.0
"""A balancer's core as the health source sees it."""

from ipaddress import ip_address
from types import SimpleNamespace

import pytest
import trio
from galelb_plugins.health_grpc.plugin import HealthGrpc, Options

from galelb.health import HealthSettings, NodeHealth
from galelb.sources import BalancerContext

LOOPBACK = ip_address("127.0.0.1")


class Core:
    """The registry behind a BalancerContext, and what the source told it."""

    def __init__(self, port=0, addresses=(LOOPBACK,), max_nodes=8, **settings):
        self.health = NodeHealth(HealthSettings(**settings), max_nodes=max_nodes)
        self.reports = []
        self.gone = []
        self.serving = {"": True, "web": True}
        self.was_gone = trio.Event()
        self.context = BalancerContext(
            config=SimpleNamespace(
                node_health=HealthSettings(**settings),
                private_interface=SimpleNamespace(net_interface_private="lo", node_port=port),
            ),
            private_addresses=tuple(addresses),
            report=self.report,
            node_gone=self.node_gone,
            nodes=self.health.records,
            serving=lambda: self.serving,
        )

    def report(self, report):
        self.reports.append(report)
        return self.health.report(report, trio.current_time())

    def node_gone(self, source, address, reason):
        self.gone.append((source, address, reason))
        self.health.lost(source, address, reason, trio.current_time())
        self.was_gone.set()

    def source(self, **options):
        return HealthGrpc(Options(**options), self.context)


@pytest.fixture
def make_core():
    return Core


@pytest.fixture
def free_port():
    """A TCP port that was free a moment ago."""
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]
