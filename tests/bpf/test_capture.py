# SPDX-License-Identifier: Apache-2.0
"""Programs that capture: what they copy, of which packets, and that they forward as ever."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from ipaddress import ip_address
from typing import Any

import attrs
import pytest
from galelb_plugins.l3_route.options import L3RouteOptions
from galelb_plugins.l3_route.plugin import L3Route
from galelb_plugins.l4_nat.options import L4NatOptions
from galelb_plugins.l4_nat.plugin import L4Nat

from galelb.abi import CaptureFlag, Reason
from galelb.bpf.pipeline import Context, Pipeline
from galelb.bpf.ringbuf import RingBuffer
from galelb.forwarder import Forwarder
from galelb.model import Protocol, Service
from galelb.packing import address_words
from galelb.testing.conversation import Conversation
from galelb.testing.kernel import Sandbox
from galelb.testing.packets import arp_request, fragments, frame
from galelb.testing.runner import Outcome, PacketRunner, Verdict
from galelb.testing.world import PRIVATE, PUBLIC, build_world

pytestmark = pytest.mark.bpf

CLIENTS = {4: "203.0.113.9", 6: "2001:db8:9::9"}
VIPS = {4: "198.51.100.1", 6: "2001:db8:1::1"}
FORWARDERS = {
    "l4_nat": lambda: L4Nat(L4NatOptions(max_flows=1024, max_slices=8)),
    "l3_route": lambda: L3Route(L3RouteOptions()),
}
FOREVER = 2**63


def _services(forwarder: str) -> list[Service]:
    target = 8080 if forwarder == "l4_nat" else 80
    web = [
        Service(
            name=f"web{version}",
            vip=ip_address(vip),
            port=80,
            protocol=Protocol.TCP,
            target_port=target,
            forwarder=forwarder,
        )
        for version, vip in VIPS.items()
    ]
    dns = attrs.evolve(web[0], name="dns", port=53, protocol=Protocol.UDP, target_port=53)
    empty = attrs.evolve(web[0], name="empty", port=81, nodes=(ip_address("10.9.9.9"),))
    return [*web, dns, empty]


WEB, WEB6, DNS, EMPTY = range(1, 5)


class CapturingRunner(PacketRunner):
    """Runs programs with the parts that capture."""

    def _pipeline(self, context: Context) -> Pipeline:
        plain = super()._pipeline(context)
        return attrs.evolve(plain, defines=plain.defines | {"GALE_CAPTURE": 1})


class Camera:
    """Captures what the programs of a runner see."""

    def __init__(self, runner: PacketRunner) -> None:
        self.runner = runner
        self._ring = RingBuffer(runner.maps["gale_capture"].layout)
        self._seen = self._lost()

    def wish(self, **wish: Any) -> None:
        plain = {"until": FOREVER, "snap": 256, "rate": 1_000_000}
        self.runner.maps["gale_capture_room"].set(0, {})  # of an earlier rate, tokens are left
        self.runner.maps["gale_capture_wish"].set(0, plain | wish)
        self.take()
        self._seen = self._lost()

    def take(self) -> list[tuple[dict[str, Any], bytes, bytes]]:
        """Return records with the frames as they came and as they left."""
        taken = []
        while records := self._ring.drain():
            for data in records:
                record, frames = self._ring.decode(data), data[self._ring.record_bytes :]
                kept = record["in_kept"]
                assert len(frames) == kept + record["out_kept"]
                taken.append((record, frames[:kept], frames[kept:]))
        return taken

    def lost(self) -> dict[str, int]:
        """Return what was lost since the last wish."""
        return {name: count - self._seen[name] for name, count in self._lost().items()}

    def _lost(self) -> dict[str, int]:
        leaves: list[Mapping[str, int]] = self.runner.maps["gale_capture_lost"].get(0) or []
        return {name: sum(leaf[name] for leaf in leaves) for name in ("full", "limited")}

    def close(self) -> None:
        self._ring.close()


@pytest.fixture(
    scope="module",
    params=[(name, context) for name in FORWARDERS for context in ("xdp", "tc")],
    ids="-".join,
)
def camera(request: pytest.FixtureRequest) -> Iterator[Camera]:
    name, context = request.param
    forwarder: Forwarder = FORWARDERS[name]()
    with Sandbox() as sandbox:
        world = build_world(sandbox)
        services = _services(name)
        with (
            CapturingRunner(sandbox, world, services, forwarder, context=context) as runner,
            closing(Camera(runner)) as made,
        ):
            yield made


@pytest.fixture
def all_of_it(camera: Camera) -> Camera:
    camera.wish(flags=int(CaptureFlag.FOREIGN))
    return camera


def _talk(camera: Camera, service: int = WEB, port: int = 40001) -> Conversation:
    asked = camera.runner.services[service]
    return Conversation(asked, CLIENTS[asked.vip.version], port)


def _is_as(record: Mapping[str, Any], outcome: Outcome) -> bool:
    return (record["reason"], record["service"]) == (int(outcome.reason), outcome.service)


@pytest.mark.parametrize("service", [WEB, WEB6], ids=["ipv4", "ipv6"])
def test_a_packet_is_copied_as_it_came_and_as_it_leaves(all_of_it: Camera, service: int) -> None:
    runner, before = all_of_it.runner, time.monotonic_ns()
    packet = _talk(all_of_it, service).to_vip(payload=b"hello")

    outcome = runner.run(packet, PUBLIC)

    ((record, came, left),) = all_of_it.take()
    assert Reason.FORWARDED == outcome.reason
    assert _is_as(record, outcome)
    assert (packet, outcome.data) == (came, left)
    assert (len(packet), len(outcome.data)) == (record["in_len"], record["out_len"])
    assert record["in"] == runner.world.interface(PUBLIC).ifindex
    assert record["out"] == runner.world.interface(PRIVATE).ifindex
    assert record["node"] == outcome.node > 0
    assert record["tc"] == (runner.context == "tc")
    assert before <= record["time"] <= time.monotonic_ns()


def test_a_dropped_packet_has_no_other_side(all_of_it: Camera) -> None:
    packet = _talk(all_of_it, EMPTY).to_vip()

    outcome = all_of_it.runner.run(packet, PUBLIC)

    ((record, came, left),) = all_of_it.take()
    assert (Verdict.DROP, Reason.NO_NODE) == (outcome.verdict, outcome.reason)
    assert _is_as(record, outcome)
    assert (packet, b"", 0) == (came, left, record["out_len"])


@pytest.mark.parametrize(
    "packet",
    [arp_request("203.0.113.9", "203.0.113.1"), frame("1.2.3.4", "5.6.7.8", sport=1, dport=2)],
    ids=["arp", "tcp"],
)
def test_what_is_passed_is_wanted_only_on_demand(camera: Camera, packet: bytes) -> None:
    camera.wish(flags=int(CaptureFlag.FOREIGN))
    camera.runner.run(packet, PUBLIC)
    ((record, came, left),) = camera.take()
    camera.wish()
    camera.runner.run(packet, PUBLIC)

    assert (packet, b"") == (came, left)
    assert (0, 0) == (record["service"], record["out_len"])
    assert [] == camera.take()


def test_replies_of_ours_are_captured(all_of_it: Camera) -> None:
    if all_of_it.runner.context == "tc":
        packet = _talk(all_of_it).to_vip(ttl=1)
    else:
        packet = _talk(all_of_it, WEB6).to_vip(ttl=1)

    outcome = all_of_it.runner.run(packet, PUBLIC)

    ((record, came, left),) = all_of_it.take()
    assert Reason.ICMP_SENT == outcome.reason
    assert _is_as(record, outcome)
    assert (packet, outcome.data) == (came, left)
    assert 0 == record["out"]  # back where it came from


def test_every_fragment_is_captured(all_of_it: Camera) -> None:
    whole = _talk(all_of_it, DNS).to_vip(payload=bytes(1000))

    outcomes = [all_of_it.runner.run(part, PUBLIC) for part in fragments(whole, 400)]

    taken = all_of_it.take()
    assert Reason.FRAGMENT_FOLLOWED == outcomes[-1].reason
    assert all(_is_as(one[0], outcome) for one, outcome in zip(taken, outcomes, strict=True))
    assert [outcome.data[:256] for outcome in outcomes] == [left for _, _, left in taken]


def test_a_service_can_be_chosen(camera: Camera) -> None:
    camera.wish(service=WEB6, flags=0)
    for service in (WEB, WEB6, EMPTY):
        camera.runner.run(_talk(camera, service).to_vip(), PUBLIC)

    assert [WEB6] == [record["service"] for record, _, _ in camera.take()]


def test_only_what_is_dropped_can_be_chosen(camera: Camera) -> None:
    camera.wish(flags=int(CaptureFlag.DROPPED))
    for service in (WEB, EMPTY):
        camera.runner.run(_talk(camera, service).to_vip(), PUBLIC)

    assert [EMPTY] == [record["service"] for record, _, _ in camera.take()]


@pytest.mark.parametrize("service", [WEB, WEB6], ids=["ipv4", "ipv6"])
def test_a_node_can_be_chosen_with_what_it_sends(camera: Camera, service: int) -> None:
    runner = camera.runner
    talks = [_talk(camera, service, port) for port in range(41000, 41020)]
    reached = {runner.run(talk.to_vip(), PUBLIC).node for talk in talks}
    node = next(n for n in runner.world.nodes if n.index == min(reached & _of(camera, service)))
    camera.wish(node=node.index, addr=address_words(node.address), family=node.address.version)

    for talk in talks:
        outcome = runner.run(talk.to_vip(), PUBLIC)
        if runner.forwarder.name == "l4_nat":
            talk.learn(outcome.data, runner.world.nodes)
            runner.run(talk.from_node(), PRIVATE)

    records = [record for record, _, _ in camera.take()]
    reasons = {Reason(record["reason"]) for record in records}
    assert len(reached) > 1
    assert all(record["node"] in (node.index, 0) for record in records)
    both = {Reason.FORWARDED, Reason.RETURNED}
    assert reasons == (both if runner.forwarder.name == "l4_nat" else {Reason.FORWARDED})
    assert 0 < len(records) < 2 * len(talks)


def _of(camera: Camera, service: int) -> set[int]:
    """Return the nodes of the service's table."""
    return {node.index for node in camera.runner.tables[service]}


@pytest.mark.parametrize("snap", [64, 100, 9216])
def test_frames_are_cut_and_their_length_is_known(camera: Camera, snap: int) -> None:
    camera.wish(snap=snap)
    packet = _talk(camera).to_vip(flags="PA", payload=bytes(range(256)) * 4)

    camera.runner.run(_talk(camera).to_vip(), PUBLIC)
    outcome = camera.runner.run(packet, PUBLIC)

    _, (record, came, left) = camera.take()
    assert (packet[:snap], outcome.data[:snap]) == (came, left)
    assert (len(packet), len(outcome.data)) == (record["in_len"], record["out_len"])


def test_more_than_its_rate_is_forwarded_and_counted_as_lost(camera: Camera) -> None:
    camera.wish(rate=1)
    outcomes = [camera.runner.run(_talk(camera).to_vip(), PUBLIC) for _ in range(50)]

    taken = len(camera.take())
    assert {Reason.FORWARDED} == {outcome.reason for outcome in outcomes}
    assert {"full": 0, "limited": 50 - taken} == camera.lost()
    assert camera.lost()["limited"] > 0


def test_a_ring_that_nobody_reads_fills_and_that_is_all(camera: Camera) -> None:
    camera.wish(snap=9216, flags=int(CaptureFlag.FOREIGN))
    talk = _talk(camera)
    camera.runner.run(talk.to_vip(), PUBLIC)
    packet = talk.to_vip(flags="PA", payload=bytes(1400))

    camera.runner.run_raw(packet, PUBLIC, repeat=4000)  # each gets what the last one made of it
    outcome = camera.runner.run(packet, PUBLIC)

    assert Reason.FORWARDED == outcome.reason
    assert camera.lost()["full"] > 0
    assert camera.take()
    camera.runner.run(packet, PUBLIC)
    assert 1 == len(camera.take())  # there is room again


def test_nothing_is_copied_when_nobody_renews_the_wish(camera: Camera) -> None:
    camera.wish(until=time.monotonic_ns() - 1)

    outcome = camera.runner.run(_talk(camera).to_vip(), PUBLIC)

    assert Reason.FORWARDED == outcome.reason
    assert ([], {"full": 0, "limited": 0}) == (camera.take(), camera.lost())


def test_big_frames_are_copied() -> None:
    """A test run in TC takes no frame of more than a page."""
    with Sandbox() as sandbox:
        world = build_world(sandbox, mtu=9000)
        services, forwarder = _services("l4_nat"), FORWARDERS["l4_nat"]()
        with (
            CapturingRunner(sandbox, world, services, forwarder) as runner,
            closing(Camera(runner)) as camera,
        ):
            talk = _talk(camera)
            camera.wish(snap=9216)
            runner.run(talk.to_vip(), PUBLIC)
            packet = talk.to_vip(flags="PA", payload=bytes(range(250)) * 35)

            outcome = runner.run(packet, PUBLIC)

            _, (_, came, left) = camera.take()
            assert (packet, outcome.data) == (came, left)


@pytest.mark.parametrize("name", FORWARDERS)
def test_captured_packets_are_forwarded_as_others_are(name: str) -> None:
    """The same frames through both programs; what is drawn by lot in them may differ."""
    outcomes = []
    for kind in (PacketRunner, CapturingRunner):
        with Sandbox() as sandbox:
            world = build_world(sandbox)
            services = _services(name)
            with kind(sandbox, world, services, FORWARDERS[name]()) as runner:
                if kind is CapturingRunner:
                    with closing(Camera(runner)) as camera:
                        camera.wish(flags=int(CaptureFlag.FOREIGN))
                talks = [
                    Conversation(services[n % 4], CLIENTS[services[n % 4].vip.version], 4000 + n)
                    for n in range(40)
                ]
                outcomes.append([runner.run(talk.to_vip(), PUBLIC) for talk in talks])

    plain, captured = outcomes
    for one, other in zip(plain, captured, strict=True):
        assert len(one.data) == len(other.data)
        assert attrs.evolve(one, data=b"") == attrs.evolve(other, data=b"")
