# SPDX-License-Identifier: Apache-2.0
"""Balancers as an agent meets them, in memory."""

import functools
from ipaddress import ip_address

import pytest
import trio
import trio.testing

from galelb.config.node import NodeConfig
from galelb.grpc.framing import CallError, StatusCode
from galelb.grpc.health_pb2 import ConfigResponse, HealthStatus, NodeSetup
from galelb.grpc.server import Server, unary

NODE = ip_address("10.0.0.1")


class FakeBalancer:
    """Serves the node's calls; what it answers is set by its attributes."""

    def __init__(self, timeout_s=5.0):
        self.timeout_s = timeout_s
        self.state = "routable"
        self.answers = True
        self.drains = True
        self.reports = []  # (time, message)
        self.connects = []  # times
        self.refuses = False
        self.fails_with = None
        self.vips = ()
        self.scopes = set()
        self.server = Server(
            {
                "/LBNodeManager/GetConfig": unary(self._config),
                "/LBNodeManager/ReportHealthStatus": self._take,
            }
        )

    @property
    def statuses(self):
        return [report.status for _, report in self.reports]

    @property
    def times(self):
        return [time for time, _ in self.reports]

    def _config(self, request, peer):
        return ConfigResponse(
            checks_before_routing=3,
            health_check_timeout=round(self.timeout_s * 1e9),
            setups=[NodeSetup(kind="vip_on_lo", vip=vip) for vip in self.vips],
            version=",".join(self.vips),
        ).SerializeToString()

    async def _take(self, call, peer):
        if self.fails_with is not None:
            raise CallError(StatusCode.INTERNAL, self.fails_with)
        while (payload := await call.receive()) is not None:
            report = HealthStatus.FromString(payload)
            self.reports.append((trio.current_time(), report))
            if self.answers:
                status = 2 if report.status == 2 and self.drains else int(self.state != "routable")
                answer = HealthStatus(
                    status=status,
                    state=self.state,
                    message=self.state,
                    config_version=",".join(self.vips),
                )
                await call.send(answer.SerializeToString())

    async def serve(self, stream):
        with trio.CancelScope() as scope:
            self.scopes.add(scope)
            await self.server.serve_stream(stream, NODE)

    def die(self):
        """Lose all connections; later ones work."""
        for scope in self.scopes:
            scope.cancel()
        self.scopes.clear()


class FakeNetwork:
    """Connects agents to fake balancers by host name."""

    def __init__(self, nursery, balancers):
        self._nursery = nursery
        self._balancers = balancers

    async def connect(self, host, port):
        await trio.lowlevel.checkpoint()
        balancer = self._balancers[host]
        balancer.connects.append(trio.current_time())
        if balancer.refuses:
            raise ConnectionRefusedError(111, "Connection refused")
        ours, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(balancer.serve, theirs)
        return ours


def config(hosts, checks=(), **node):
    return NodeConfig.model_validate(
        {
            "load_balancer": {"addresses": tuple({"hostname": host} for host in hosts)},
            "node": {"name": "web", **node},
            "checks": tuple(checks),
        },
        strict=False,
    )


@pytest.fixture
def balancer():
    return FakeBalancer()


@pytest.fixture
def make_balancer():
    return FakeBalancer


@pytest.fixture
def make_config(tmp_path):
    """config(), whose files are the test's own."""
    files = {"state_file": str(tmp_path / "node.json"), "stop_file": str(tmp_path / "stopped")}
    return lambda hosts, checks=(), **node: config(hosts, checks, **files | node)


@pytest.fixture
def network(nursery):
    return functools.partial(FakeNetwork, nursery)
