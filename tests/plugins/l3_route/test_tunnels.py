# SPDX-License-Identifier: Apache-2.0
"""What packets of l3_route travel in: outer headers byte by byte, MTU, fragments, tags."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_address, ip_network
from typing import Any

import attrs
import pytest
from galelb_plugins.l3_route.options import L3RouteOptions
from galelb_plugins.l3_route.plugin import L3Route

from galelb.abi import NodeFlag, Reason
from galelb.model import Protocol, Service
from galelb.testing.cases import Play
from galelb.testing.checksums import checksum_problems
from galelb.testing.kernel import Sandbox
from galelb.testing.packets import fragments, icmp_error, scapy
from galelb.testing.runner import Outcome, PacketRunner, Verdict
from galelb.testing.world import (
    LOCAL_CLIENTS,
    PRIVATE,
    PRIVATE_MAC,
    PUBLIC,
    TestNode,
    World,
    build_world,
)

pytestmark = pytest.mark.bpf

VIPS = {4: "198.51.100.1", 6: "2001:db8:1::1"}
SOURCES = {4: "10.0.0.1", 6: "fd00::1"}
KINDS = ("tcp4", "udp4", "tcp6", "udp6")
CONTEXTS = ("xdp", "tc")
TUNNELS = ("ipip", "gue")
GUE_PORT = 6099
NETWORKS = ("10.200.0.0/16", "fd00:200::/112")
HEADERS = {("ipip", 4): 20, ("ipip", 6): 40, ("gue", 4): 28, ("gue", 6): 48}
WAYS = list(itertools.product(CONTEXTS, TUNNELS, KINDS, (4, 6)))


def service(kind: str, port: int, nodes: tuple[TestNode, ...] = (), vlan: int = 0) -> Service:
    return Service(
        name=kind,
        vip=ip_address(VIPS[int(kind[3])]),
        port=port,
        protocol=Protocol[kind[:3].upper()],
        target_port=port,
        forwarder="l3_route",
        vlan=vlan,
        nodes=tuple(node.address for node in nodes),
    )


class Tunnels:
    """Runners by context and options, compiled when first asked for."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._made: dict[Any, PacketRunner] = {}

    def play(
        self, context: str, kind: str, version: int, *, local: bool = False, **options
    ) -> Play:
        """A conversation with a service of this kind whose nodes have that family."""
        key = (context, *options.items())
        if key not in self._made:
            self._made[key] = self._make(context, options)
        runner = self._made[key]
        wanted = next(
            one
            for one in runner.services.values()
            if one.name == kind and one.nodes[0].version == version
        )
        return Play.start(runner, wanted, full_nat=False, local=local)

    def _make(self, context: str, options: dict[str, Any]) -> PacketRunner:
        sandbox = self._stack.enter_context(Sandbox())
        world = build_world(sandbox)
        forwarder = L3Route(L3RouteOptions(**options))
        return self._stack.enter_context(
            PacketRunner(sandbox, world, _services(world), forwarder, context=context)
        )

    def restore(self) -> None:
        for runner in self._made.values():
            runner.restore()


def _services(world: World) -> list[Service]:
    """Every kind, with nodes of IPv4 and with nodes of IPv6; and one behind a VLAN tag."""
    made = []
    for version, first in ((4, 80), (6, 90)):
        nodes = tuple(n for n in world.nodes if n.address.version == version)
        made += [service(kind, first + i, nodes) for i, kind in enumerate(KINDS)]
        tagged = service("tcp4", first + 9, nodes, vlan=5)
        made.append(attrs.evolve(tagged, name="vlan4"))
    return made


@pytest.fixture(scope="module")
def compiled() -> Iterator[Tunnels]:
    with ExitStack() as stack:
        yield Tunnels(stack)


@pytest.fixture
def tunnels(compiled: Tunnels) -> Iterator[Tunnels]:
    yield compiled
    compiled.restore()


def inside(play: Play, **more: Any) -> bytes:
    """The client's packet one hop on, without its link layer."""
    whole = play.talk.to_vip(**{**more, "ttl": more.get("ttl", 64) - 1, "vlans": []})
    return whole[14:]


def reached(play: Play, outcome: Outcome) -> TestNode:
    return next(n for n in play.runner.world.nodes if n.index == outcome.node)


def outer(outcome: Outcome) -> Any:
    return scapy().Ether(outcome.data)


def seed_port(outcome: Outcome) -> int:
    """The source port that the flow got: only the program's hash knows it."""
    return int(outer(outcome)[scapy().UDP].sport)


def expected(node: TestNode, packet: bytes, encap: str, tos: int, label: int, sport: int) -> bytes:
    """The frame that the node must get, built by scapy."""
    s = scapy()
    kind = {4: 4, 6: 41}[packet[0] >> 4] if encap == "ipip" else 17
    link = s.Ether(src=PRIVATE_MAC, dst=node.mac)
    if node.address.version == 4:
        head = s.IP(
            src=SOURCES[4], dst=str(node.address), proto=kind, ttl=64, id=0, flags="DF", tos=tos
        )
    else:
        head = s.IPv6(src=SOURCES[6], dst=str(node.address), nh=kind, hlim=64, tc=tos, fl=label)
    if encap == "gue":
        head = head / s.UDP(sport=sport, dport=GUE_PORT, chksum=0)
    return bytes(link / head / s.Raw(packet))


# outer headers


@pytest.mark.parametrize(("context", "encap", "kind", "version"), WAYS)
def test_the_packet_travels_inside_another_one(tunnels, context, encap, kind, version):
    play = tunnels.play(context, kind, version, encap=encap, gue_port=GUE_PORT)
    packet = {"payload": b"hello", "tos": 0xBA}

    outcome = play.runner.run(play.talk.to_vip(**packet))

    node = reached(play, outcome)
    label = outer(outcome).fl if version == 6 else 0
    sport = seed_port(outcome) if encap == "gue" else 0
    assert (Verdict.REDIRECT, Reason.FORWARDED) == (outcome.verdict, outcome.reason)
    assert node.address.version == version
    assert expected(node, inside(play, **packet), encap, 0xBA, label, sport) == outcome.data
    assert sport == 0 or sport >= 49152


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("kind", KINDS)
def test_without_a_tunnel_only_the_hop_counts(tunnels, context, kind):
    play = tunnels.play(context, kind, int(kind[3]), encap="none")

    outcome = play.runner.run(play.talk.to_vip(payload=b"hello"))

    macs = {"src_mac": PRIVATE_MAC, "dst_mac": reached(play, outcome).mac}
    assert play.talk.to_vip(payload=b"hello", ttl=63, **macs) == outcome.data


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", [4, 6])
def test_every_flow_has_its_own_outer_source(tunnels, kind, version):
    options = {"encap": "ipip", "outer_source": NETWORKS}
    network = ip_network(NETWORKS[version == 6])
    seen = []
    for _ in range(40):
        play = tunnels.play("xdp", kind, version, **options)
        first, again = (outer(play.runner.run(play.talk.to_vip(payload=b"x"))) for _ in range(2))
        assert first.payload.src == again.payload.src
        seen.append(ip_address(first.payload.src))

    assert all(address in network for address in seen)
    assert len(set(seen)) > 30


@pytest.mark.parametrize("version", [4, 6])
def test_gue_spreads_flows_over_source_ports(tunnels, version):
    ports = set()
    for _ in range(40):
        play = tunnels.play("xdp", "udp4", version, encap="gue", gue_port=GUE_PORT)
        outcomes = [play.runner.run(play.talk.to_vip(payload=b"x")) for _ in range(2)]
        assert seed_port(outcomes[0]) == seed_port(outcomes[1])
        ports.add(seed_port(outcomes[0]))

    assert len(ports) > 35


# sizes


@pytest.mark.parametrize(("encap", "version"), HEADERS)
@pytest.mark.parametrize("kind", ["tcp4", "udp6"])
def test_what_does_not_fit_is_answered_with_the_size_that_does(tunnels, encap, version, kind):
    play = tunnels.play("xdp", kind, version, encap=encap, gue_port=GUE_PORT)
    room = 1500 - HEADERS[encap, version]
    headers = len(inside(play))
    fits, bigger = (bytes(room - headers + more) for more in (0, 1))

    sent = play.runner.run(play.talk.to_vip(payload=fits))
    answer = play.runner.run(play.talk.to_vip(payload=bigger))

    assert (Reason.FORWARDED, 1514) == (sent.reason, len(sent.data))
    assert (Verdict.TX, Reason.ICMP_SENT) == (answer.verdict, answer.reason)
    told = outer(answer)
    assert str(play.talk.service.vip) == told.payload.src
    assert room == (told.payload.payload.nexthopmtu if kind == "tcp4" else told.payload.payload.mtu)


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_last_hop_is_told(tunnels, context, kind):
    play = tunnels.play(context, kind, 4, encap="ipip")

    outcome = play.runner.run(play.talk.to_vip(ttl=1))

    assert outcome.reason is Reason.ICMP_SENT


NO_HOSTS = {
    4: ("0.0.0.0", "127.0.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
    6: ("::", "::1", "ff02::1"),
}


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("kind", KINDS)
def test_nobody_is_told_what_no_single_host_sent(tunnels, context, kind):
    for address in NO_HOSTS[int(kind[3])]:
        play = tunnels.play(context, kind, 4, encap="ipip")
        play.talk.client = address

        outcome = play.runner.run(play.talk.to_vip(ttl=1))

        assert (Verdict.DROP, Reason.TTL_EXCEEDED) == (outcome.verdict, outcome.reason), address


# fragments, errors, tags


@pytest.mark.parametrize(("context", "encap", "kind", "version"), WAYS)
def test_fragments_travel_in_one_tunnel(tunnels, context, encap, kind, version):
    play = tunnels.play(context, kind, version, encap=encap, gue_port=GUE_PORT)
    parts = fragments(play.talk.to_vip(payload=bytes(range(251))), 64)

    outcomes = [play.runner.run(part) for part in parts]

    assert {Verdict.REDIRECT} == {one.verdict for one in outcomes}
    assert len({one.node for one in outcomes}) == 1
    tunnel = HEADERS[encap, version]
    heads = {one.data[14 : 14 + tunnel][-8 if encap == "gue" else -4 :][:4] for one in outcomes}
    assert len(heads) == 1
    hops = 8 if kind.endswith("4") else 7
    for part, one in zip(parts, outcomes, strict=True):
        packet = bytearray(one.data[14 + tunnel :])
        assert checksum_problems(part[:14] + bytes(packet)) == []
        assert packet[hops] == part[14 + hops] - 1
        packet[hops] += 1
        if kind.endswith("4"):
            packet[10:12] = part[24:26]
        assert part[14:] == bytes(packet)


def test_later_fragments_for_a_node_that_left_are_dropped(tunnels):
    play = tunnels.play("xdp", "udp4", 4, encap="ipip")
    first, second, *_ = fragments(play.talk.to_vip(payload=bytes(251)), 64)
    node = reached(play, play.runner.run(first))
    play.runner.set_node(node, NodeFlag(0))

    outcome = play.runner.run(second)

    assert (Verdict.DROP, Reason.NODE_GONE) == (outcome.verdict, outcome.reason)


@pytest.mark.parametrize(("context", "encap", "kind", "version"), WAYS)
def test_an_icmp_error_reaches_the_node_in_its_tunnel(tunnels, context, encap, kind, version):
    play = tunnels.play(context, kind, version, encap=encap, gue_port=GUE_PORT)
    node = reached(play, play.runner.run(play.talk.to_vip(payload=b"x")))
    talk = play.talk
    s = scapy()
    transport = s.TCP if kind.startswith("tcp") else s.UDP
    quoted = bytes(
        s.Ether()
        / (s.IP if kind.endswith("4") else s.IPv6)(src=str(talk.service.vip), dst=talk.client)
        / transport(sport=talk.service.port, dport=talk.client_port)
        / bytes(100)
    )
    router, how = (
        ("100.64.0.1", {"kind": 3, "code": 4, "rest": 1400})
        if kind.endswith("4")
        else ("2001:db8:abc::1", {"kind": 2, "rest": 1400})
    )

    outcome = play.runner.run(icmp_error(router, str(talk.service.vip), quoted, **how))

    assert (Verdict.REDIRECT, Reason.ICMP_TRANSLATED) == (outcome.verdict, outcome.reason)
    assert node.index == outcome.node
    packet = outcome.data[14 + HEADERS[encap, version] :]
    assert (
        checksum_problems(
            bytes(12) + (b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd") + packet
        )
        == []
    )


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("encap", TUNNELS)
def test_a_tag_stays_outside_when_leaving_by_the_same_interface(tunnels, encap, version):
    play = tunnels.play("xdp", "vlan4", version, local=True, encap=encap, gue_port=GUE_PORT)

    outcome = play.runner.run(play.talk.to_vip(payload=b"x"), PRIVATE)

    told = outer(outcome)
    assert Verdict.TX is outcome.verdict
    assert 5 == told[scapy().Dot1Q].vlan
    assert version == told.payload.payload.version
    assert outcome.data[18 + HEADERS[encap, version] :] == inside(play, payload=b"x")


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("encap", TUNNELS)
def test_a_tag_goes_when_leaving_by_another_interface(tunnels, context, encap, version):
    play = tunnels.play(context, "vlan4", version, encap=encap, gue_port=GUE_PORT)

    outcome = play.runner.run(play.talk.to_vip(payload=b"x"))

    assert Verdict.REDIRECT is outcome.verdict
    assert outcome.data[14 + HEADERS[encap, version] :] == inside(play, payload=b"x")


@pytest.mark.parametrize("kind", KINDS)
def test_a_node_that_is_a_client_is_refused(tunnels, kind):
    version = int(kind[3])
    play = tunnels.play("xdp", kind, version, local=True, encap="ipip")
    node = next(n for n in play.runner.world.nodes if n.address.version == version)
    play.talk.client = str(node.address)

    outcome = play.runner.run(play.talk.to_vip(), PRIVATE)

    assert (Verdict.DROP, Reason.HAIRPIN) == (outcome.verdict, outcome.reason)
    assert LOCAL_CLIENTS[version] != play.talk.client
    assert play.runner.run(play.talk.to_vip(), PUBLIC).reason is Reason.FORWARDED
