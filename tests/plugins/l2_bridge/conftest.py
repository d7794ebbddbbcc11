# SPDX-License-Identifier: Apache-2.0
"""Services, compiled programs and conversations for the tests of l2_bridge."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from galelb_plugins.l2_bridge.plugin import L2Bridge

from galelb.forwarder import Options
from galelb.testing.cases import Play
from galelb.testing.kernel import Sandbox
from galelb.testing.runner import PacketRunner
from galelb.testing.services import Runners, make_services
from galelb.testing.world import build_world

SERVICES = make_services("l2_bridge")


@pytest.fixture(scope="session")
def bridges() -> Iterator[Callable[[str], PacketRunner]]:
    def get(context: str) -> PacketRunner:
        def build(sandbox: Sandbox) -> PacketRunner:
            world, services = build_world(sandbox), list(SERVICES.values())
            return PacketRunner(sandbox, world, services, L2Bridge(Options()), context=context)

        return runners.get(context, build)

    with ExitStack() as stack:
        runners = Runners(stack)
        yield get


@pytest.fixture
def bridge(bridges: Callable[[str], PacketRunner]) -> Iterator[Callable[..., Play]]:
    """Start a conversation; what a test changes about nodes and next hops is undone after it."""
    used: list[PacketRunner] = []

    def start(context: str, kind: str, *, local: bool = False) -> Play:
        runner = bridges(context)
        used.append(runner)
        return Play.start(runner, SERVICES[kind], full_nat=False, local=local)

    yield start
    for runner in used:
        runner.restore()
