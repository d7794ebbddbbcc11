# SPDX-License-Identifier: Apache-2.0
"""A balancer's core as health_probe sees it, with services and nodes that a test sets."""

from ipaddress import ip_address
from types import SimpleNamespace

import pytest
import trio
from galelb_plugins.health_probe.options import HealthProbeOptions, Probe
from galelb_plugins.health_probe.plugin import HealthProbe

from galelb.health import HealthSettings, NodeHealth
from galelb.model import Node, Protocol, Service
from galelb.sources import BalancerContext, Reach


def service(name="web", port=80, *, vip="192.0.2.10", protocol=Protocol.TCP, **more):
    return Service(
        name=name,
        vip=ip_address(vip),
        port=port,
        protocol=protocol,
        target_port=more.pop("target_port", port),
        forwarder="test",
        **more,
    )


class Core:
    """The registry behind a BalancerContext, and what the source told it."""

    def __init__(self, *services, reach=Reach.ADDRESS, way=None):
        self.health = NodeHealth(HealthSettings(), checkers=["health_probe"])
        self.services = list(services)
        self.reports = []
        self.gone = []
        self.context = BalancerContext(
            config=SimpleNamespace(),
            private_addresses=(),
            report=self.report,
            node_gone=self.node_gone,
            nodes=self.health.records,
            services=lambda: tuple(self.services),
            reach=lambda *_: reach,
            vip_way=way,
        )

    def report(self, report):
        record = self.health.report(report, trio.current_time())
        self.reports.append(report)
        return record

    def node_gone(self, source, address, reason):
        self.gone.append((address, reason))
        self.health.lost(source, address, reason, trio.current_time())

    def configure(self, *addresses):
        for address in addresses:
            self.health.add_static(Node(address=ip_address(address)), trio.current_time())
        self.context.changed.notify()

    def forget(self, address):
        self.health.remove(ip_address(address), trio.current_time())
        self.context.changed.notify()

    def source(self, *probes, **options):
        made = tuple(Probe(**probe) for probe in probes)
        return HealthProbe(HealthProbeOptions(probes=made, **options), self.context)

    def state(self, address):
        record = self.health.get(ip_address(address))
        return record.state, record.reason


@pytest.fixture
def make_core():
    return Core


@pytest.fixture
def make_service():
    return service
