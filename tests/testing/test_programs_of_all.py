# SPDX-License-Identifier: Apache-2.0
"""One program with all three forwarders, IPv4 and IPv6, and 200 services at once."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from galelb_plugins.l2_bridge.plugin import L2Bridge
from galelb_plugins.l3_route.options import L3RouteOptions
from galelb_plugins.l3_route.plugin import L3Route
from galelb_plugins.l4_nat.options import L4NatOptions
from galelb_plugins.l4_nat.plugin import L4Nat

from galelb.abi import Reason
from galelb.forwarder import Options
from galelb.model import Protocol, Service
from galelb.testing.dissect import dissect
from galelb.testing.kernel import Sandbox
from galelb.testing.model import BridgeModel, ReferenceModel, RouteModel
from galelb.testing.packets import frame, icmp_error
from galelb.testing.runner import PacketRunner, Verdict
from galelb.testing.services import VIPS
from galelb.testing.world import build_world

pytestmark = pytest.mark.bpf

SERVICES = 200
FORWARDERS = ("l2_bridge", "l3_route", "l4_nat")
CLIENTS = {4: "203.0.113.9", 6: "2001:db8:f::9"}
OTHER_PORT = 8000


def service(number: int) -> Service:
    """All kinds of services with all forwarders, in turn."""
    version, protocol = (4, 6)[number % 2], (Protocol.TCP, Protocol.UDP)[number // 2 % 2]
    forwarder = FORWARDERS[number % len(FORWARDERS)]
    port = 1000 + number
    return Service(
        name=f"s{number}",
        vip=ip_address(VIPS[version]) + number % 5,
        port=port,
        protocol=protocol,
        target_port=port + OTHER_PORT if forwarder == "l4_nat" else port,
        forwarder=forwarder,
    )


@pytest.fixture(scope="module", params=["xdp", "tc"])
def runner(request: pytest.FixtureRequest) -> Iterator[PacketRunner]:
    forwarders = (
        L2Bridge(Options()),
        L3Route(L3RouteOptions()),
        L4Nat(L4NatOptions(max_flows=65536, max_slices=512)),
    )
    services = [service(number) for number in range(SERVICES)]
    with (
        Sandbox() as sandbox,
        PacketRunner(
            sandbox, build_world(sandbox), services, *forwarders, context=request.param
        ) as one,
    ):
        yield one


@pytest.fixture(scope="module")
def model(runner: PacketRunner) -> ReferenceModel:
    """Models the stateless ones; packets of the third forwarder are not asked for."""
    parts = {"l2_bridge": BridgeModel(), "l3_route": RouteModel(), "l4_nat": BridgeModel()}
    return ReferenceModel(runner, parts)


def request_of(one: Service, port: int = 4000) -> bytes:
    client, protocol = CLIENTS[one.vip.version], one.protocol.name.lower()
    return frame(client, str(one.vip), port, one.port, protocol=protocol, payload=b"hello")


def test_every_service_is_forwarded_by_its_own_forwarder(runner, model) -> None:
    for number, one in runner.services.items():
        data = request_of(one)
        outcome = runner.run(data)

        assert (Reason.FORWARDED, number) == (outcome.reason, outcome.service), f"{one}: {outcome}"
        if one.forwarder != "l4_nat":
            assert [] == model.check(model.predict(data, runner.world.public.name), outcome)
        else:
            packet, node = dissect(outcome.data), runner.world.nodes[outcome.node - 1]
            assert packet is not None
            assert (node.address, one.target_port) == (packet.dst, packet.dport)


def test_ports_and_addresses_between_the_services_pass(runner) -> None:
    for one in runner.services.values():
        client, protocol = CLIENTS[one.vip.version], one.protocol.name.lower()
        data = frame(client, str(one.vip + 7), 4000, one.port, protocol=protocol)
        outcome = runner.run(data)

        assert (Verdict.PASS, data) == (outcome.verdict, outcome.data), str(outcome)


def test_errors_go_by_the_forwarder_of_the_service_that_they_are_about(runner) -> None:
    for one in runner.services.values():
        client, protocol = CLIENTS[one.vip.version], one.protocol.name.lower()
        first = runner.run(request_of(one, 4001))
        quoted = frame(str(one.vip), client, one.port, 4001, protocol=protocol)
        kind = {4: 3, 6: 1}[one.vip.version]
        outcome = runner.run(icmp_error(client, str(one.vip), quoted, kind=kind))

        assert (Reason.ICMP_TRANSLATED, first.node) == (outcome.reason, outcome.node), str(outcome)
