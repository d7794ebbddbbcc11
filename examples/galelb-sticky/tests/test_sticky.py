# SPDX-License-Identifier: Apache-2.0
"""What is special about sticky_bridge: who meets which node."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address

import pytest
from galelb_sticky import StickyBridge, StickyOptions

from galelb.model import Protocol, Service
from galelb.testing.kernel import Sandbox
from galelb.testing.packets import frame, icmp_error
from galelb.testing.runner import PacketRunner
from galelb.testing.world import PUBLIC, build_world

VIPS = {4: "198.51.100.1", 6: "2001:db8:1::1"}
PORTS = range(40000, 40016)
UNREACHABLE = {4: 3, 6: 1}


def service(version: int, *, target_port: int = 80) -> Service:
    return Service(
        name=f"web{version}",
        vip=ip_address(VIPS[version]),
        port=80,
        protocol=Protocol.TCP,
        target_port=target_port,
        forwarder="sticky_bridge",
    )


@contextmanager
def compiled(**options: int) -> Iterator[PacketRunner]:
    """The forwarder's program in the kernel, with three nodes of each family."""
    services = [service(4), service(6)]
    forwarder = StickyBridge(StickyOptions(**options))
    with ExitStack() as stack:
        sandbox = stack.enter_context(Sandbox())
        world = build_world(sandbox)
        yield stack.enter_context(PacketRunner(sandbox, world, services, forwarder))


@pytest.fixture(scope="module")
def usual() -> Iterator[PacketRunner]:
    with compiled() as runner:
        yield runner


@pytest.fixture(scope="module")
def narrow() -> Iterator[PacketRunner]:
    """The first prefix ends within a word, the second holds every word."""
    with compiled(ipv4_prefix=20, ipv6_prefix=128) as runner:
        yield runner


def nodes(runner: PacketRunner, clients: list[str]) -> set[int]:
    """Return the nodes that many connections of these clients meet."""
    vip = VIPS[ip_address(clients[0]).version]
    frames = [frame(client, vip, port, 80) for client in clients for port in PORTS]
    return {outcome.node for outcome in runner.run_all((one, PUBLIC) for one in frames)}


@pytest.mark.parametrize("client", ["203.0.113.9", "2001:db8:9::9"])
def test_a_client_meets_one_node_whatever_its_port(usual: PacketRunner, client: str) -> None:
    assert len(nodes(usual, [client])) == 1


def test_clients_spread_over_all_nodes(usual: PacketRunner) -> None:
    assert len(nodes(usual, [f"203.0.113.{n}" for n in range(1, 65)])) == 3
    assert len(nodes(usual, [f"2001:db8:9:{n:x}::9" for n in range(64)])) == 3


def test_the_addresses_of_an_ipv6_host_are_one_client(usual: PacketRunner) -> None:
    assert len(nodes(usual, [f"2001:db8:9:9:{n:x}::" for n in range(0, 0x10000, 0x800)])) == 1


def test_prefixes_that_end_within_a_word(narrow: PacketRunner) -> None:
    assert len(nodes(narrow, [f"203.0.{n}.7" for n in range(112, 128)])) == 1
    assert len(nodes(narrow, [f"203.0.{n}.7" for n in range(0, 256, 4)])) == 3


def test_all_bits_of_an_ipv6_address_can_count(narrow: PacketRunner) -> None:
    assert len(nodes(narrow, [f"2001:db8:9:9::{n:x}" for n in range(1, 65)])) == 3


@pytest.mark.parametrize("client", ["203.0.113.9", "2001:db8:9::9"])
def test_an_icmp_error_comes_to_the_node_of_its_client(usual: PacketRunner, client: str) -> None:
    version = ip_address(client).version
    vip, router = VIPS[version], {4: "100.64.0.1", 6: "2001:db8:abc::1"}[version]
    answers = [frame(vip, client, 80, port) for port in PORTS]
    errors = [icmp_error(router, vip, one, kind=UNREACHABLE[version], code=1) for one in answers]

    told = {outcome.node for outcome in usual.run_all((one, PUBLIC) for one in errors)}

    assert told == nodes(usual, [client])


def test_a_port_that_would_have_to_change_is_refused() -> None:
    forwarder = StickyBridge(StickyOptions())

    assert forwarder.check([service(4)], None) == []
    assert forwarder.check([service(4, target_port=8080)], None) == [
        "service web4: no port is changed: leave target_port out"
    ]
