# SPDX-License-Identifier: Apache-2.0
"""The program that nodes run: packets of tunnels come out as they went in, all others untouched."""

import itertools
import os
import random
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

from galelb.bpf import syscalls
from galelb.bpf.testrun import run_xdp
from galelb.node.decap_program import DecapProgram
from galelb.node.tunnels import End, Outcome

pytestmark = pytest.mark.bpf

PASS, DROP = 2, 1
PORT = 6080
NODE = {4: "10.0.0.70", 6: "fd00::70"}
BALANCER = {4: "10.0.0.10", 6: "fd00::10"}
CLIENT = {4: "198.51.100.5", 6: "2001:db8:5::5"}
VIP = {4: "192.0.2.80", 6: "2001:db8:80::1"}
OTHER = {4: "192.0.2.81", 6: "2001:db8:80::2"}
FAMILIES = (4, 6)
ENCAPS = ("ipip", "gue")
TAGS = {"untagged": (), "vlan": (7,)}
SHAPES = list(itertools.product(ENCAPS, FAMILIES, FAMILIES, TAGS))


class Node:
    """The loaded program; `sees` is what the kernel would get of a frame."""

    def __init__(self, folder) -> None:
        self._program = DecapProgram(folder)
        ends = [(f, port) for f in FAMILIES for port in (0, PORT)]
        self._program.expect(
            [End(ip_address(NODE[f]), port) for f, port in ends],
            [End(ip_address(VIP[f]), port) for f, port in ends],
        )
        self._fd = syscalls.obj_get(self._program.pin)

    def sees(self, frame: bytes) -> tuple[int, bytes, Outcome]:
        before = self._program.statistics()
        result = run_xdp(self._fd, frame)
        after = self._program.statistics()
        (outcome,) = (one for one in Outcome if after[one] != before[one])
        return result.verdict, result.data, outcome

    def close(self) -> None:
        os.close(self._fd)
        self._program.close()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("node") / "tunnels"
    made = Node(folder)
    yield made
    made.close()
    DecapProgram.remove(folder)
    assert not folder.exists()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "tunnels"
    DecapProgram.remove(tmp_path / "tunnels")


def ether(tags=(), ethertype=None) -> Packet:
    frame = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    for tag in tags:
        frame = frame / Dot1Q(vlan=tag, prio=3)
    return frame


def inside(family: int, *, dst=None, load=b"hello", tos=0) -> Packet:
    dst = dst or VIP[family]
    if family == 4:
        ip = IP(src=CLIENT[4], dst=dst, ttl=63, tos=tos)
    else:
        ip = IPv6(src=CLIENT[6], dst=dst, hlim=63, tc=tos)
    return ip / TCP(sport=40000, dport=80, flags="A") / Raw(load)


def around(encap: str, family: int, inner: Packet, *, dst=None, port=PORT, tos=0) -> Packet:
    dst = dst or NODE[family]
    number = 4 if isinstance(inner, IP) else 41
    if encap == "gue":
        number = 17
    if family == 4:
        outer = IP(src=BALANCER[4], dst=dst, proto=number, flags="DF", tos=tos)
    else:
        outer = IPv6(src=BALANCER[6], dst=dst, nh=number, tc=tos)
    if encap == "gue":
        outer = outer / UDP(sport=50000, dport=port, chksum=0)
        return outer / Raw(bytes(inner))
    return outer / Raw(bytes(inner))


@pytest.mark.parametrize(("encap", "outer", "inner", "tag"), SHAPES)
def test_what_went_in_comes_out(node, encap, outer, inner, tag):
    packet = inside(inner)
    frame = ether(TAGS[tag]) / around(encap, outer, packet)

    assert (PASS, bytes(ether(TAGS[tag]) / packet), Outcome.UNPACKED) == node.sees(bytes(frame))


@pytest.mark.parametrize(("encap", "outer", "inner", "tag"), SHAPES)
def test_at_every_length_that_is_too_short_it_passes_untouched(node, encap, outer, inner, tag):
    whole = bytes(ether(TAGS[tag]) / around(encap, outer, inside(inner)))
    for length in range(14, len(whole)):
        verdict, data, outcome = node.sees(whole[:length])

        assert (PASS, whole[:length]) == (verdict, data), length
        assert outcome in (Outcome.PASSED, Outcome.MALFORMED), length


@pytest.mark.parametrize(("encap", "outer", "inner", "tag"), SHAPES)
def test_jumbo_frames_come_out_whole(node, encap, outer, inner, tag):
    packet = inside(inner, load=random.Random(9).randbytes(8900))
    frame = ether(TAGS[tag]) / around(encap, outer, packet)

    assert (PASS, bytes(ether(TAGS[tag]) / packet), Outcome.UNPACKED) == node.sees(bytes(frame))


def test_padding_of_short_frames_does_no_harm(node):
    packet = inside(4, load=b"")
    frame = bytes(ether() / around("ipip", 4, packet)) + bytes(20)

    assert (PASS, bytes(ether() / packet) + bytes(20), Outcome.UNPACKED) == node.sees(frame)


def broken(frame: Packet, offset: int, value: bytes) -> bytes:
    data = bytearray(bytes(frame))
    data[offset : offset + len(value)] = value
    return bytes(data)


OUTER4 = 14  # offsets in an untagged frame
INNER4 = 34
FOREIGN = {
    "arp": ether() / ARP(pdst=NODE[4]),
    "plain_tcp": ether() / inside(4),
    "plain_tcp6": ether() / inside(6),
    "udp_of_another_port": ether() / around("gue", 4, inside(4), port=PORT + 1),
    "udp_to_port_0": ether() / around("gue", 4, inside(4), port=0),
    "to_another_node": ether() / around("ipip", 4, inside(4), dst="10.0.0.71"),
    "to_another_node6": ether() / around("gue", 6, inside(6), dst="fd00::71"),
    "to_a_vip": ether() / around("ipip", 4, inside(4), dst=VIP[4]),
    "first_fragment": ether() / IP(dst=NODE[4], proto=4, flags="MF") / Raw(bytes(inside(4))),
    "later_fragment": ether() / IP(dst=NODE[4], proto=4, frag=8) / Raw(bytes(inside(4))),
    "fragment6": ether()
    / IPv6(dst=NODE[6])
    / IPv6ExtHdrFragment(nh=4, m=1)
    / Raw(bytes(inside(4))),
    "outer_options": ether()
    / IP(dst=NODE[4], proto=4, options=[IPOption_NOP()])
    / Raw(bytes(inside(4))),
    "outer_extensions": ether() / IPv6(dst=NODE[6]) / IPv6ExtHdrDestOpt(nh=4) / bytes(inside(4)),
    "two_tags": ether((7, 8)) / around("ipip", 4, inside(4)),
    "gre": ether() / IP(dst=NODE[4], proto=47) / Raw(bytes(4) + bytes(inside(4))),
    "version_5": broken(ether() / around("ipip", 4, inside(4)), OUTER4, b"\x55"),
}
MALFORMED = {
    "outer_checksum": broken(ether() / around("ipip", 4, inside(4)), OUTER4 + 10, b"\xba\xad"),
    "inner_version": broken(ether() / around("ipip", 4, inside(4)), INNER4, b"\x05"),
    "gue_control": broken(ether() / around("gue", 4, inside(4)), INNER4 + 8, b"\x00"),
    "inner_header_too_short": broken(ether() / around("ipip", 4, inside(4)), INNER4, b"\x44"),
    "inner_too_long": broken(ether() / around("ipip", 4, inside(4)), INNER4 + 2, b"\x10\x00"),
    "inner_shorter_than_its_header": broken(
        ether() / around("ipip", 4, inside(4)), INNER4 + 2, b"\x00\x13"
    ),
    "inner6_too_long": broken(ether() / around("ipip", 4, inside(6)), INNER4 + 4, b"\x10\x00"),
    "udp_shorter_than_inner": broken(
        ether() / around("gue", 4, inside(4)), INNER4 + 4, b"\x00\x20"
    ),
    "ipv6_as_protocol_4": ether() / IP(dst=NODE[4], proto=4) / Raw(bytes(inside(6))),
    "ipv4_as_protocol_41": ether() / IP(dst=NODE[4], proto=41) / Raw(bytes(inside(4))),
    "nothing_inside": ether() / IP(dst=NODE[4], proto=4),
}
NOT_FOR_US = {
    "other_vip": ether() / around("ipip", 4, inside(4, dst=OTHER[4])),
    "other_vip6": ether() / around("gue", 6, inside(6, dst=OTHER[6])),
    "node_itself": ether() / around("ipip", 4, inside(4, dst=NODE[4])),
}
UNTOUCHED = [
    (name, bytes(frame), outcome)
    for frames, outcome in (
        (FOREIGN, Outcome.PASSED),
        (MALFORMED, Outcome.MALFORMED),
        (NOT_FOR_US, Outcome.FOREIGN),
    )
    for name, frame in frames.items()
]


@pytest.mark.parametrize(("name", "frame", "outcome"), UNTOUCHED, ids=[u[0] for u in UNTOUCHED])
def test_everything_else_passes_untouched(node, name, frame, outcome):
    assert (PASS, frame, outcome) == node.sees(frame)


def test_an_encap_that_was_not_asked_for_is_left_alone(folder):
    program = DecapProgram(folder)
    program.expect(
        [End(ip_address(NODE[4])), End(ip_address(NODE[4]), PORT)],
        [End(ip_address(VIP[4]), PORT)],
    )
    fd = syscalls.obj_get(program.pin)
    bare = bytes(ether() / around("ipip", 4, inside(4)))
    in_udp = bytes(ether() / around("gue", 4, inside(4)))
    results = [run_xdp(fd, frame).data for frame in (bare, in_udp)]
    os.close(fd)
    program.close()

    assert [bare, bytes(ether() / inside(4))] == results


@pytest.mark.parametrize("outer", FAMILIES)
@pytest.mark.parametrize("inner", FAMILIES)
def test_congestion_that_the_outer_packet_met_is_told_inside(node, outer, inner):
    frame = ether() / around("ipip", outer, inside(inner, tos=0b10111010), tos=0b11)
    wanted = ether() / inside(inner, tos=0b10111011)

    assert (PASS, bytes(wanted), Outcome.UNPACKED) == node.sees(bytes(frame))


@pytest.mark.parametrize("inner", FAMILIES)
def test_congestion_that_cannot_be_told_is_a_loss(node, inner):
    frame = bytes(ether() / around("gue", 4, inside(inner), tos=0b11))
    verdict, _, outcome = node.sees(frame)

    assert (DROP, Outcome.CONGESTED) == (verdict, outcome)


def test_noise_neither_changes_nor_crashes(node):
    rng = random.Random(3)
    whole = [bytes(ether(TAGS[t]) / around(e, o, inside(i))) for e, o, i, t in SHAPES]
    for _ in range(3000):
        frame = bytearray(rng.choice(whole))
        for _ in range(rng.randint(1, 4)):
            frame[rng.randrange(12, len(frame))] = rng.randrange(256)
        verdict, data, outcome = node.sees(bytes(frame))

        if outcome in (Outcome.PASSED, Outcome.MALFORMED, Outcome.FOREIGN):
            assert (PASS, bytes(frame)) == (verdict, data)
        elif outcome is Outcome.UNPACKED:
            assert bytes(frame).endswith(data[-40:])
        else:
            assert outcome is Outcome.CONGESTED


def test_what_is_expected_can_be_changed_and_read_back(folder):
    program = DecapProgram(folder)
    outer = {End(ip_address(NODE[4]), PORT), End(ip_address(NODE[6]))}
    program.expect(outer, {End(ip_address(VIP[4]))})
    first = program.expected()
    program.expect({End(ip_address(NODE[6]))}, {End(ip_address(VIP[6]))})
    second = program.expected()
    program.close()

    assert (outer, {End(ip_address(VIP[4]))}) == first
    assert ({End(ip_address(NODE[6]))}, {End(ip_address(VIP[6]))}) == second


def test_the_next_start_finds_program_and_maps(folder):
    first = DecapProgram(folder)
    first.expect({End(ip_address(NODE[4]))}, {End(ip_address(VIP[4]))})
    first.close()
    second = DecapProgram(folder)
    held = second.expected()
    second.close()

    assert (first.pin, first.id) == (second.pin, second.id)
    assert ({End(ip_address(NODE[4]))}, {End(ip_address(VIP[4]))}) == held
