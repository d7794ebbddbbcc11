# SPDX-License-Identifier: Apache-2.0
"""How answers find their client when the kernel forwards, and when it does not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from ipaddress import ip_address
from pathlib import Path

import pytest
from galelb_plugins.l4_nat.options import L4NatOptions
from galelb_plugins.l4_nat.plugin import L4Nat

from galelb.abi import EventType, Reason
from galelb.bpf.ringbuf import RingBuffer
from galelb.model import Protocol, Service
from galelb.testing.conversation import Conversation
from galelb.testing.kernel import Sandbox
from galelb.testing.runner import PacketRunner
from galelb.testing.world import PRIVATE, PUBLIC, build_world

pytestmark = pytest.mark.bpf

STRANGER = "02:00:00:00:00:77"
SERVICES = [
    Service(
        name=f"web{version}",
        vip=ip_address(vip),
        port=80,
        protocol=Protocol.TCP,
        target_port=8080,
        forwarder="l4_nat",
    )
    for version, vip in ((4, "198.51.100.1"), (6, "2001:db8:1::1"))
]
CLIENTS = ["203.0.113.9", "2001:db8:9::9"]


def _set_forwarding(value: str) -> None:
    for path in Path("/proc/sys/net/ipv4/conf").glob("*/forwarding"):
        path.write_text(value)
    for path in Path("/proc/sys/net/ipv6/conf").glob("*/forwarding"):
        path.write_text(value)


@pytest.fixture(scope="module")
def runner() -> Iterator[PacketRunner]:
    with Sandbox() as sandbox:
        world = build_world(sandbox)
        forwarder = L4Nat(L4NatOptions(max_flows=1024, max_slices=8))
        with PacketRunner(sandbox, world, SERVICES, forwarder) as made:
            yield made


@pytest.fixture
def no_forwarding(runner: PacketRunner) -> Iterator[None]:
    runner.sandbox.run(_set_forwarding, "0")
    yield
    runner.sandbox.run(_set_forwarding, "1")


def _events(runner: PacketRunner) -> list[dict[str, object]]:
    ring = runner.maps["gale_events"]
    with closing(RingBuffer(ring.layout)) as reader:
        return [ring.records.decode(record) for record in reader.drain(100)]


@pytest.mark.parametrize("version", [0, 1], ids=["ipv4", "ipv6"])
def test_without_kernel_forwarding_an_answer_goes_the_way_its_client_came(
    runner: PacketRunner, no_forwarding: None, version: int
) -> None:
    talk = Conversation(SERVICES[version], CLIENTS[version], 40001)
    there = runner.run(talk.to_vip(src_mac=STRANGER), PUBLIC)
    talk.learn(there.data, runner.world.nodes)

    back = runner.run(talk.from_node(), PRIVATE)

    assert Reason.RETURNED == back.reason
    assert bytes.fromhex(STRANGER.replace(":", "")) == back.data[:6]
    assert PUBLIC == back.out


@pytest.mark.parametrize("version", [0, 1], ids=["ipv4", "ipv6"])
def test_with_kernel_forwarding_an_answer_goes_where_the_routes_say(
    runner: PacketRunner, version: int
) -> None:
    talk = Conversation(SERVICES[version], CLIENTS[version], 40002)
    there = runner.run(talk.to_vip(src_mac=STRANGER), PUBLIC)
    talk.learn(there.data, runner.world.nodes)

    back = runner.run(talk.from_node(), PRIVATE)

    assert Reason.RETURNED == back.reason
    assert talk.to_client() == back.data


def test_an_unknown_way_is_told_to_the_control_plane(
    runner: PacketRunner, no_forwarding: None
) -> None:
    talk = Conversation(SERVICES[0], CLIENTS[0], 40003)
    _events(runner)

    runner.run(talk.to_vip(src_mac="02:00:00:00:00:78"), PUBLIC)

    (event,) = _events(runner)
    wanted = {
        "type": EventType.NEW_NEXT_HOP,
        "ifindex": runner.world.public.ifindex,
        "mac": bytes.fromhex("020000000078"),
        "mtu": runner.world.public.mtu,
        "family": 4,
    }
    assert wanted == {name: event[name] for name in wanted}


def test_a_learned_way_becomes_the_flows_next_hop(
    runner: PacketRunner, no_forwarding: None
) -> None:
    runner.set_next_hop(99, runner.world.public, "02:00:00:00:00:79")
    talk = Conversation(SERVICES[0], "203.0.113.77", 40004)
    there = runner.run(talk.to_vip(src_mac="02:00:00:00:00:79"), PUBLIC)
    talk.learn(there.data, runner.world.nodes)
    runner.maps["gale_client_ways"].delete(_client_key("203.0.113.77"))

    back = runner.run(talk.from_node(), PRIVATE)

    assert bytes.fromhex("020000000079") == back.data[:6]


def _client_key(address: str) -> dict[str, object]:
    words = (int.from_bytes(ip_address(address).packed, "little"), 0, 0, 0)
    return {"addr": words, "family": 4}
