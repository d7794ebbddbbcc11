# SPDX-License-Identifier: Apache-2.0
"""Every forwarder's program and model agree on whatever hypothesis and mutations come up with.

The same packets come every time. GALELB_PACKETS=100000 runs so many mutated ones in all.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from galelb_plugins.l2_bridge.plugin import L2Bridge
from galelb_plugins.l3_route.options import L3RouteOptions
from galelb_plugins.l3_route.plugin import L3Route
from galelb_plugins.l4_nat.options import L4NatOptions
from galelb_plugins.l4_nat.plugin import L4Nat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from galelb.abi import Reason
from galelb.forwarder import Forwarder, Options
from galelb.testing.corpus import Corpus, mutate
from galelb.testing.differential import compare
from galelb.testing.kernel import Sandbox
from galelb.testing.model import (
    BridgeModel,
    ForwarderModel,
    NatModel,
    ReferenceModel,
    RouteModel,
)
from galelb.testing.packets import frame
from galelb.testing.runner import PacketRunner
from galelb.testing.services import Runners, make_services
from galelb.testing.world import PRIVATE, PUBLIC, build_world

pytestmark = pytest.mark.bpf

SEED = 3
NAMES = ["tcp_established", "tcp_syn", "tcp_fin", "udp", "udp_unreplied"]
FOREVER = {f"{name}_timeout": 8 * 3600.0 for name in NAMES}


def nat(mode: str) -> Forwarder:
    return L4Nat(L4NatOptions(mode=mode, max_flows=65536, max_slices=64, **FOREVER))


def route(encap: str) -> Forwarder:
    return L3Route(L3RouteOptions(encap=encap))


Maker = tuple[Callable[[], Forwarder], Callable[[], ForwarderModel], int]
MADE: dict[str, Maker] = {
    "l2_bridge": (lambda: L2Bridge(Options()), BridgeModel, 0),
    "l3_route ipip": (lambda: route("ipip"), lambda: RouteModel("ipip"), 0),
    "l3_route gue": (lambda: route("gue"), lambda: RouteModel("gue"), 0),
    "l3_route none": (lambda: route("none"), lambda: RouteModel("none"), 0),
    "l4_nat full_nat": (lambda: nat("full_nat"), lambda: NatModel(full_nat=True), 8000),
    "l4_nat dnat": (lambda: nat("dnat"), lambda: NatModel(full_nat=False), 8000),
}
WAYS = [(name, context) for name in MADE for context in ("xdp", "tc")]
PACKETS = int(os.environ.get("GALELB_PACKETS", "24000")) // len(WAYS)
Stage = Callable[[str, str], tuple[PacketRunner, ReferenceModel]]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """Programs with models that have seen all that ran in them."""
    models: dict[int, ReferenceModel] = {}

    def get(name: str, context: str) -> tuple[PacketRunner, ReferenceModel]:
        forwarder, model, offset = MADE[name]

        def build(sandbox: Sandbox) -> PacketRunner:
            made = forwarder()
            services = list(make_services(made.name, target_offset=offset).values())
            world = build_world(sandbox, calm=True)
            return PacketRunner(sandbox, world, services, made, context=context)

        runner = runners.get((name, context), build)
        if id(runner) not in models:
            parts = {runner.forwarder.name: model()}
            models[id(runner)] = ReferenceModel(runner, parts)
        return runner, models[id(runner)]

    with ExitStack() as stack:
        runners = Runners(stack)
        yield get


@pytest.mark.parametrize(("name", "context"), WAYS)
def test_mutated_packets(stage: Stage, name: str, context: str) -> None:
    runner, model = stage(name, context)
    corpus = Corpus(SEED, runner)

    seen = compare(
        runner, model, (corpus.draw() for _ in range(PACKETS)), about=f"{name} seed {SEED}"
    )

    for reason in (Reason.FORWARDED, Reason.PASS_FOREIGN, Reason.PASS_UNPARSABLE, Reason.NO_NODE):
        assert seen[reason.name] > PACKETS // 50, seen


# what hypothesis makes up: it shrinks a failure to the simplest packets that still fail

FLAGS = ["S", "A", "PA", "FA", "R", "SA", ""]
packets = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(list(make_services("x"))),
        "client": st.integers(1, 250),
        "port": st.integers(0, 65535),
        "off": st.sampled_from([0, 0, 0, 0, 1, 7000]),
        "flags": st.sampled_from(FLAGS),
        "payload": st.binary(max_size=100),
        "ttl": st.integers(0, 255),
        "tos": st.integers(0, 255),
        "vlans": st.one_of(st.none(), st.none(), st.lists(st.integers(0, 0xFFFF), max_size=2)),
        "spoiled": st.lists(st.integers(0, 1 << 32), max_size=3),
        "ingress": st.sampled_from([PUBLIC, PRIVATE]),
    }
)


def built(spec: dict) -> tuple[bytes, str]:
    service = make_services("x")[spec["kind"]]
    client = {4: "203.0.113.{}", 6: "2001:db8:f::{:x}"}[service.vip.version]
    own = [service.vlan] if service.vlan else []
    data = frame(
        client.format(spec["client"]),
        str(service.vip),
        spec["port"],
        service.port + spec["off"],
        protocol=service.protocol.name.lower(),
        vlans=own if spec["vlans"] is None else spec["vlans"],
        **{name: spec[name] for name in ("flags", "payload", "ttl", "tos")},
    )
    for seed in spec["spoiled"]:
        data = mutate(random.Random(seed), data)
    return data, spec["ingress"]


@pytest.mark.parametrize(("name", "context"), WAYS)
def test_made_up_packets(stage: Stage, name: str, context: str) -> None:
    runner, model = stage(name, context)

    @settings(
        max_examples=120,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(st.lists(packets, min_size=1, max_size=6))
    def agree(specs: list[dict]) -> None:
        compare(runner, model, [built(spec) for spec in specs], about=str(specs))

    agree()
