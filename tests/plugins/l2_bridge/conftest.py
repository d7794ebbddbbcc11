# SPDX-License-Identifier: Apache-2.0
"""Services, compiled programs and conversations for the tests of l2_bridge."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import ip_address
from typing import Any

import pytest
from galelb_plugins.l2_bridge.plugin import L2Bridge

from galelb.errors import GaleError
from galelb.forwarder import Options
from galelb.model import Protocol, Service
from galelb.testing.cases import Play
from galelb.testing.kernel import Sandbox
from galelb.testing.runner import PacketRunner
from galelb.testing.world import build_world

VIPS = {4: "198.51.100.1", 6: "2001:db8:1::1"}


def _service(name: str, port: int, protocol: Protocol, version: int, **more: Any) -> Service:
    values = {"target_port": port, "forwarder": "l2_bridge"} | more
    return Service(name=name, vip=ip_address(VIPS[version]), port=port, protocol=protocol, **values)


SERVICES = {
    "tcp4": _service("tcp4", 80, Protocol.TCP, 4),
    "udp4": _service("udp4", 53, Protocol.UDP, 4),
    "tcp6": _service("tcp6", 80, Protocol.TCP, 6),
    "udp6": _service("udp6", 53, Protocol.UDP, 6),
    "vlan4": _service("vlan4", 81, Protocol.TCP, 4, vlan=5),
    "vlan6": _service("vlan6", 81, Protocol.UDP, 6, vlan=5),
    "empty4": _service("empty4", 82, Protocol.TCP, 4, nodes=(ip_address("10.9.9.9"),)),
    "empty6": _service("empty6", 82, Protocol.UDP, 6, nodes=(ip_address("fd09::9"),)),
}


class Runners:
    """Compiled programs by context, made when first asked for and kept."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._made: dict[Any, PacketRunner | GaleError] = {}

    def get(self, context: str, kinds: tuple[str, ...] = tuple(SERVICES)) -> PacketRunner:
        """A runner with these services; one that cannot be loaded fails every test alike."""
        key = (context, kinds)
        if key not in self._made:
            self._made[key] = self._try(context, kinds)
        made = self._made[key]
        if isinstance(made, GaleError):
            pytest.fail(f"l2_bridge in {context} cannot be loaded: {made}")
        return made

    def _try(self, context: str, kinds: tuple[str, ...]) -> PacketRunner | GaleError:
        sandbox = self._stack.enter_context(Sandbox())
        world = build_world(sandbox)
        services = [SERVICES[kind] for kind in kinds]
        try:
            return self._stack.enter_context(
                PacketRunner(sandbox, world, services, L2Bridge(Options()), context=context)
            )
        except GaleError as error:
            return error


@pytest.fixture(scope="session")
def bridges() -> Iterator[Runners]:
    with ExitStack() as stack:
        yield Runners(stack)


@pytest.fixture
def bridge(bridges: Runners) -> Iterator[Callable[..., Play]]:
    """Start a conversation; what a test changes about nodes and next hops is undone after it."""
    used: list[PacketRunner] = []

    def start(context: str, kind: str, *, local: bool = False) -> Play:
        runner = bridges.get(context)
        used.append(runner)
        return Play.start(runner, SERVICES[kind], full_nat=False, local=local)

    yield start
    for runner in used:
        runner.restore()
