# SPDX-License-Identifier: Apache-2.0
"""A balancer of a group leaves frames for other machines alone, which switches may flood to it."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

import attrs
import pytest
from galelb_plugins.l4_nat.options import L4NatOptions
from galelb_plugins.l4_nat.plugin import L4Nat

from galelb.abi import Reason
from galelb.datapath.own_macs import write_own_macs
from galelb.model import Protocol, Service
from galelb.testing.kernel import Sandbox
from galelb.testing.packets import frame
from galelb.testing.runner import PacketRunner, Verdict
from galelb.testing.world import PRIVATE, PRIVATE_MAC, PUBLIC, PUBLIC_MAC, build_world

pytestmark = pytest.mark.bpf

OTHER_MAC = "02:00:00:00:00:99"
VIPS = {4: "198.51.100.1", 6: "2001:db8:1::1"}
CLIENTS = {4: "203.0.113.9", 6: "2001:db8:9::9"}


def service(version: int) -> Service:
    return Service(
        name=f"s{version}",
        vip=ip_address(VIPS[version]),
        port=80,
        protocol=Protocol.TCP,
        target_port=80,
        forwarder="l4_nat",
    )


@pytest.fixture(scope="module", params=["xdp", "tc"])
def runner(request: pytest.FixtureRequest) -> Iterator[PacketRunner]:
    with Sandbox() as sandbox:
        world = build_world(sandbox)
        world = attrs.evolve(world, host=attrs.evolve(world.host, grouped=True))
        nat = L4Nat(L4NatOptions())
        services = [service(version) for version in (4, 6)]
        with PacketRunner(sandbox, world, services, nat, context=request.param) as one:
            write_own_macs(one.maps, (world.public, world.private))
            yield one


def request_to(version: int, mac: str, port: int, **more: object) -> bytes:
    return frame(CLIENTS[version], VIPS[version], port, 80, dst_mac=mac, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("version", [4, 6])
def test_frames_for_other_machines_pass_and_make_no_flow(
    runner: PacketRunner, version: int
) -> None:
    flooded = request_to(version, OTHER_MAC, 4000)

    outcome = runner.run(flooded, PUBLIC)

    assert (Verdict.PASS, Reason.PASS_FOREIGN) == (outcome.verdict, outcome.reason)
    assert flooded == outcome.data
    assert 0 == len(list(runner.forwarder.flows(runner, runner.view())))


@pytest.mark.parametrize("mac", [PUBLIC_MAC, "ff:ff:ff:ff:ff:ff", "03:bf:00:00:00:01"])
def test_frames_for_this_machine_or_for_a_group_of_machines_are_forwarded(
    runner: PacketRunner, mac: str
) -> None:
    outcome = runner.run(request_to(4, mac, 4001), PUBLIC)

    assert (Verdict.REDIRECT, Reason.FORWARDED) == (outcome.verdict, outcome.reason)


def test_slow_packets_for_other_machines_pass_too(runner: PacketRunner) -> None:
    given = request_to(4, OTHER_MAC, 4002, options=b"\x01\x01\x01\x01")

    assert Reason.PASS_FOREIGN is runner.run(given, PUBLIC).reason
    assert (
        Reason.FORWARDED
        is runner.run(request_to(4, PUBLIC_MAC, 4002, options=b"\x01\x01\x01\x01"), PUBLIC).reason
    )


def test_answers_of_nodes_to_other_machines_pass(runner: PacketRunner) -> None:
    there = runner.run(request_to(4, PUBLIC_MAC, 4003), PUBLIC)
    flow = next(
        one for one in runner.forwarder.flows(runner, runner.view()) if one.client_port == 4003
    )

    def answer(mac: str) -> bytes:
        source = str(flow.source)
        return frame(str(flow.node), source, 80, flow.source_port, flags="SA", dst_mac=mac)

    assert Reason.FORWARDED is there.reason
    assert Reason.PASS_FOREIGN is runner.run(answer(OTHER_MAC), PRIVATE).reason
    assert Reason.RETURNED is runner.run(answer(PRIVATE_MAC), PRIVATE).reason


def test_of_an_interface_that_nobody_told_of_all_frames_are_ours(runner: PacketRunner) -> None:
    for interface in (runner.world.public, runner.world.private):
        runner.maps["gale_own_macs"].set(
            interface.ifindex % 256, {"ifindex": 0, "mac": bytes(6), "pad": 0}
        )
    try:
        assert Reason.FORWARDED is runner.run(request_to(4, OTHER_MAC, 4004), PUBLIC).reason
    finally:
        write_own_macs(runner.maps, (runner.world.public, runner.world.private))


def test_a_lone_balancer_has_no_such_map() -> None:
    write_own_macs({}, ())  # and nothing is written
