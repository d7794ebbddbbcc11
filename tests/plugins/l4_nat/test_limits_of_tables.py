# SPDX-License-Identifier: Apache-2.0
"""What happens when ports or entries run out, and flows that come from elsewhere (import)."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import numpy as np
import pytest
from galelb_plugins.l4_nat.entries import SEEN, SYN, TCP
from galelb_plugins.l4_nat.importer import FLOW_TYPE, Importer
from galelb_plugins.l4_nat.options import L4NatOptions
from galelb_plugins.l4_nat.plugin import L4Nat
from galelb_plugins.l4_nat.sweep import What, current_tick, sweep

from galelb.abi import Reason
from galelb.model import Protocol, Service
from galelb.testing.cases import Play
from galelb.testing.dissect import dissect
from galelb.testing.kernel import Sandbox
from galelb.testing.runner import PacketRunner, Verdict
from galelb.testing.world import PRIVATE, build_world

pytestmark = pytest.mark.bpf

PORTS = (3000, 3003)
FEW = {"max_flows": 1024, "max_slices": 32, "ports": PORTS}
KNOWN = 255
KINDS = ["tcp4", "udp6"]


def service_of(runner: PacketRunner, name: str) -> Service:
    return next(s for s in runner.services.values() if s.name == name)


def one_node(runner: PacketRunner, name: str) -> None:
    """Leave a service one node, so that it has exactly one slice."""
    service = service_of(runner, name)
    number = next(n for n, s in runner.services.items() if s == service)
    node = next(n for n in runner.world.nodes if n.address.version == service.vip.version)
    runner.set_table(number, [node])


@pytest.fixture
def few(runners) -> PacketRunner:
    """Four source ports per slice; nothing expires within the test."""
    return runners.make("xdp", mode="full_nat", fresh="few", tcp_syn_timeout=3600.0, **FEW)


def fill(runner: PacketRunner, kind: str, count: int) -> list[Play]:
    plays = [Play.start(runner, service_of(runner, kind)) for _ in range(count)]
    for play in plays:
        play.establish()
    return plays


def source_port(data: bytes) -> int:
    packet = dissect(data)
    assert packet is not None
    return packet.sport


@pytest.mark.parametrize("kind", KINDS)
def test_when_all_ports_are_taken_new_flows_are_refused_and_old_ones_go_on(few, kind) -> None:
    one_node(few, kind)
    plays = fill(few, kind, 4)
    late = Play.start(few, service_of(few, kind))

    refused = late.open()

    assert {3000, 3001, 3002, 3003} == {p.talk.source_port for p in plays}
    assert (Verdict.DROP, Reason.TABLE_FULL) == (refused.verdict, refused.reason)
    for play in plays:
        there = play.send(play.talk.to_vip(payload=b"x", **({"flags": "A"} if play.tcp else {})))
        back = play.send(play.talk.from_node(payload=b"y"), PRIVATE)
        assert [Reason.FORWARDED, Reason.RETURNED] == [there.reason, back.reason]


def test_a_closed_flow_s_port_is_quarantined_then_used_again(runners) -> None:
    runner = runners.make(
        "xdp", mode="full_nat", hurry=True, fresh="port", port_quarantine=20.0,
        max_flows=1024, max_slices=32, ports=(3000, 3000),
    )  # fmt: skip
    one_node(runner, "tcp4")
    first, second = (Play.start(runner, service_of(runner, "tcp4")) for _ in range(2))
    first.establish()
    first.send(first.talk.to_vip(flags="R"))

    again = first.open()
    early = second.open()
    start = current_tick(runner)
    while (current_tick(runner) - start) % 65536 <= runner.world.host.ticks(20.0) + 1:
        pass
    late = second.open()

    assert [Reason.TABLE_FULL] * 2 == [again.reason, early.reason]
    assert (Reason.FORWARDED, 3000) == (late.reason, source_port(late.data))


def test_ports_closed_longest_ago_come_first(runners) -> None:
    runner = runners.make("xdp", mode="full_nat", fresh="order", **{**FEW, "ports": (3000, 3063)})
    one_node(runner, "udp4")

    ports = [
        source_port(Play.start(runner, service_of(runner, "udp4")).open().data) for _ in range(64)
    ]

    assert 64 == len(set(ports))


def test_several_source_addresses_multiply_the_ports(runners) -> None:
    pool = (ip_address("10.0.0.101"), ip_address("10.0.0.102"), ip_address("10.0.0.103"))
    runner = runners.make(
        "xdp", mode="full_nat", source_addresses=pool, kinds=("tcp4", "udp4"), **FEW
    )
    one_node(runner, "tcp4")

    plays = [Play.start(runner, service_of(runner, "tcp4")) for _ in range(13)]
    outcomes = [play.open() for play in plays]

    used = {(p.talk.source, p.talk.source_port) for p in plays[:12]}
    assert [Reason.FORWARDED] * 12 == [o.reason for o in outcomes[:12]]
    assert 12 == len(used)
    assert {str(a) for a in pool} == {source for source, _ in used}
    assert Reason.TABLE_FULL == outcomes[12].reason
    for play in plays[:12]:
        back = play.send(play.talk.from_node(flags="SA"), PRIVATE)
        assert play.talk.to_client(flags="SA") == back.data


@pytest.mark.parametrize("mode", ["full_nat", "dnat"])
def test_established_flows_are_never_evicted(runners, mode) -> None:
    """A flood of half-open flows, many times the table, and the established ones all live."""
    runner = runners.make("xdp", mode=mode, fresh="flood", max_flows=1024, max_slices=32)
    service = service_of(runner, "tcp4")
    plays = [Play.start(runner, service) for _ in range(64)]
    for play in plays:
        play.establish()

    flood = Play.start(runner, service).talk.to_vip(flags="S")
    for number in range(6000):
        data = bytearray(flood)
        data[26:30] = (0x0B000000 + number * 7).to_bytes(4, "big")
        runner.run_raw(bytes(data))

    for play in plays:
        outcome = play.send(play.talk.to_vip(flags="A", payload=b"still here"))
        assert play.talk.to_node(flags="A", payload=b"still here") == outcome.data


# no adoption while the copy from peers is incomplete


def test_without_adoption_only_a_syn_begins_a_tcp_flow(few) -> None:
    lease = few.maps["l4_nat_lease"].get(0)
    few.maps["l4_nat_lease"].set(0, lease | {"flags": 1})
    try:
        ack = Play.start(few, service_of(few, "same4"))
        refused = ack.send(ack.talk.to_vip(flags="A"))
        syn = Play.start(few, service_of(few, "same4")).open()
    finally:
        few.maps["l4_nat_lease"].set(0, lease)

    assert [Reason.NO_FLOW, Reason.FORWARDED] == [refused.reason, syn.reason]


# import


def imported(runner: PacketRunner, flows: list[bytes]) -> tuple[int, list[int]]:
    """Import a batch; returns how many were added and each one's result."""
    results = Importer(runner).take_in(np.frombuffer(b"".join(flows), FLOW_TYPE)).tolist()
    return results.count(0), results


def flow(play: Play, port: int, *, age: int = 0) -> bytes:
    """A flow of this conversation through the first node's slice, as a peer would tell it."""
    runner, talk = play.runner, play.talk
    wanted = (talk.service.target_port, int(talk.service.protocol), talk.service.vip.version)
    slice_id = next(
        leaf["id"]
        for key, leaf in runner.maps["l4_nat_slices"].items()
        if (int.from_bytes(key["target_port"].to_bytes(2, "little"), "big"), key["protocol"],
            key["family"]) == wanted
    )  # fmt: skip
    number = next(n for n, s in runner.services.items() if s == talk.service)
    state = SEEN | (TCP | SYN if play.tcp else 0)
    back = SEEN | (TCP if play.tcp else 0)
    client = ip_address(talk.client).packed.ljust(16, b"\0")
    made = np.zeros(1, FLOW_TYPE)
    made[0] = (
        struct.unpack("4I", client), slice_id, talk.client_port, port, number,
        talk.service.vip.version, state, back, 0, age, age, 0, 0,
    )  # fmt: skip
    return made.tobytes()


@pytest.fixture(params=["full_nat", "dnat"])
def importer(request, runners) -> PacketRunner:
    return runners.make("xdp", mode=request.param, fresh="import", max_flows=1024, max_slices=32)


@pytest.mark.parametrize("kind", ["tcp4", "udp4", "tcp6", "udp6"])
def test_an_imported_flow_is_as_good_as_an_own_one(importer, audit, kind) -> None:
    full_nat = importer.forwarder.options.mode == "full_nat"
    play = Play.start(importer, service_of(importer, kind), full_nat=full_nat)
    port = 5000 if full_nat else play.talk.client_port

    result = imported(importer, [flow(play, port)])
    outcome = play.send(play.talk.to_vip(payload=b"x", **({"flags": "A"} if play.tcp else {})))
    back = play.send(play.talk.from_node(payload=b"y"), PRIVATE)

    assert (1, [0]) == result
    assert (Reason.FORWARDED, port) == (outcome.reason, source_port(outcome.data))
    assert play.talk.to_client(payload=b"y") == back.data
    assert [] == audit(importer).problems


def test_a_flow_that_is_known_is_not_imported_again(importer) -> None:
    full_nat = importer.forwarder.options.mode == "full_nat"
    play = Play.start(importer, service_of(importer, "tcp4"), full_nat=full_nat)
    told = flow(play, 5001 if full_nat else play.talk.client_port, age=40)

    result = imported(importer, [told, told])

    assert (1, [0, KNOWN]) == result


def test_a_port_that_is_taken_is_not_imported(runners, audit) -> None:
    runner = runners.make("xdp", mode="full_nat", fresh="import", max_flows=1024, max_slices=32)
    first, second = (Play.start(runner, service_of(runner, "tcp4")) for _ in range(2))

    result = imported(runner, [flow(first, 6000), flow(second, 6000)])

    assert (1, [0, int(Reason.TABLE_FULL)]) == result
    assert [] == audit(runner).problems


def test_a_batch_is_imported_whole(importer, audit) -> None:
    full_nat = importer.forwarder.options.mode == "full_nat"
    plays = [
        Play.start(importer, service_of(importer, "udp6"), full_nat=full_nat) for _ in range(64)
    ]
    batch = [
        flow(play, 7000 + n if full_nat else play.talk.client_port) for n, play in enumerate(plays)
    ]

    added, results = imported(importer, batch)

    assert (64, [0] * 64) == (added, results)
    assert [] == audit(importer).problems


def test_an_imported_flow_expires_by_its_own_age(runners) -> None:
    runner = runners.make("xdp", mode="full_nat", fresh="import", max_flows=1024, max_slices=32)
    play = Play.start(runner, service_of(runner, "udp4"))
    old = runner.world.host.ticks(3600)
    imported(runner, [flow(play, 8000, age=old)])

    removed, first, done = 0, 0, False
    while not done:
        part = sweep(runner, What.FLOWS, 4, first, 16)
        removed, first, done = removed + part.removed, part.next, part.done

    assert removed >= 1


# many services: found by a hash map instead of compares


def test_many_services_are_matched_as_few_are() -> None:
    services = [
        Service(
            name=f"s{n}",
            vip=ip_address("198.51.100.1" if n % 2 else "2001:db8:1::1"),
            port=1000 + n,
            protocol=Protocol.TCP if n % 3 else Protocol.UDP,
            target_port=9000,
            forwarder="l4_nat",
            vlan=7 if n == 40 else 0,
        )
        for n in range(1, 41)
    ]
    with Sandbox() as sandbox:
        forwarder = L4Nat(L4NatOptions(max_flows=1024, max_slices=32))
        with PacketRunner(sandbox, build_world(sandbox), services, forwarder) as runner:
            for service in services:
                play = Play.start(runner, service)
                play.establish()
                assert [Reason.FORWARDED, Reason.RETURNED] == [o.reason for o in play.outcomes[:2]]
            stranger = Play.start(runner, services[0])
            stranger.talk.service = Service(
                name="none", vip=services[0].vip, port=999, protocol=Protocol.TCP,
                target_port=1, forwarder="l4_nat",
            )  # fmt: skip
            assert Reason.PASS_FOREIGN is stranger.open().reason


# every length


@pytest.mark.parametrize("kind", ["tcp4", "udp4", "tcp6", "udp6"])
def test_a_frame_cut_anywhere_is_passed_untouched(runners, kind) -> None:
    runner = runners.get("full_nat", "xdp")
    play = Play.start(runner, service_of(runner, kind))
    whole = play.talk.to_vip(payload=bytes(range(40)))

    for size in range(14, len(whole)):
        result = runner.run_raw(whole[:size])
        assert (2, whole[:size]) == (result.verdict, result.data), size
