# SPDX-License-Identifier: Apache-2.0
"""What is said of packets: one line each, and what differs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.all import (
    ARP,
    ICMP,
    IP,
    TCP,
    UDP,
    Dot1Q,
    Ether,
    ICMPv6PacketTooBig,
    IPOption_NOP,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    Raw,
)

from galelb.trace.describe import difference, summary
from galelb.trace.layers import layers

E = Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02")
OUT = Ether(dst="02:00:00:00:00:11", src="02:00:00:00:00:12")
V4 = IP(src="192.0.2.1", dst="203.0.113.1")
V6 = IPv6(src="2001:db8::1", dst="2001:db8::2")
QUOTE = IP(src="203.0.113.1", dst="192.0.2.1") / TCP(sport=80, dport=1000, flags="PA")

LINES = {
    "192.0.2.1:1000 > 203.0.113.1:80 TCP S, ttl 64, 54 bytes": E / V4 / TCP(sport=1000, dport=80),
    "[2001:db8::1]:7 > [2001:db8::2]:53 UDP, ttl 9, 64 bytes": E
    / IPv6(src="2001:db8::1", dst="2001:db8::2", hlim=9)
    / UDP(sport=7, dport=53)
    / b"hi",
    "vlan 5, 192.0.2.1:1000 > 203.0.113.1:80 TCP FA, ttl 64, 58 bytes": E
    / Dot1Q(vlan=5)
    / V4
    / TCP(sport=1000, dport=80, flags="FA"),
    "192.0.2.1:1 > 203.0.113.1:2 UDP, first fragment, ttl 64, 42 bytes": E
    / IP(src="192.0.2.1", dst="203.0.113.1", flags="MF")
    / UDP(sport=1, dport=2),
    "192.0.2.1 > 203.0.113.1 UDP, fragment at 800, ttl 64, 42 bytes": E
    / IP(src="192.0.2.1", dst="203.0.113.1", frag=100, proto=17)
    / Raw(bytes(8)),
    "2001:db8::1 > 2001:db8::2 UDP, fragment at 800, ttl 64, 70 bytes": E
    / V6
    / IPv6ExtHdrFragment(offset=100, nh=17)
    / Raw(bytes(8)),
    "192.0.2.1:1000 > 203.0.113.1:80 TCP S, ttl 64, 58 bytes": E
    / IP(src="192.0.2.1", dst="203.0.113.1", options=[IPOption_NOP()] * 4)
    / TCP(sport=1000, dport=80),
    "[2001:db8::1]:1000 > [2001:db8::2]:80 TCP S, ttl 64, 82 bytes": E
    / V6
    / IPv6ExtHdrDestOpt()
    / TCP(sport=1000, dport=80),
    "ARP who has 192.0.2.9? tell 192.0.2.1, 42 bytes": E / ARP(psrc="192.0.2.1", pdst="192.0.2.9"),
    "ARP 192.0.2.9 is at 02:00:00:00:00:09, 42 bytes": E
    / ARP(op=2, psrc="192.0.2.9", hwsrc="02:00:00:00:00:09"),
    "192.0.2.1 > 203.0.113.1 ICMP echo request, ttl 64, 42 bytes": E / V4 / ICMP(),
    "192.0.2.1 > 203.0.113.1 ICMP fragmentation needed (mtu 1400) about"
    " [203.0.113.1:80 > 192.0.2.1:1000 TCP PA, ttl 64], ttl 64, 82 bytes": E
    / V4
    / ICMP(type=3, code=4, nexthopmtu=1400)
    / QUOTE,
    "2001:db8::1 > 2001:db8::2 ICMPv6 packet too big (mtu 1280) about"
    " [[2001:db8::2]:80 > [2001:db8::1]:9 TCP S, ttl 64], ttl 64, 122 bytes": E
    / V6
    / ICMPv6PacketTooBig(mtu=1280)
    / IPv6(src="2001:db8::2", dst="2001:db8::1")
    / TCP(sport=80, dport=9),
    "10.0.0.1 > 10.0.0.11 [192.0.2.1:1000 > 203.0.113.1:80 TCP S, ttl 64], 74 bytes": E
    / IP(src="10.0.0.1", dst="10.0.0.11", proto=4)
    / V4
    / TCP(sport=1000, dport=80),
    "192.0.2.1 > 203.0.113.1 protocol 99, ttl 64, 34 bytes": E
    / IP(src="192.0.2.1", dst="203.0.113.1", proto=99),
    "LLDP, cannot be read, 20 bytes": Ether(dst=E.dst, src=E.src, type=0x88CC) / Raw(bytes(6)),
    "IPv4, cannot be read, 24 bytes": Ether(dst=E.dst, src=E.src, type=0x0800) / Raw(bytes(10)),
    "ethertype 0x1234, cannot be read, 16 bytes": Ether(dst=E.dst, src=E.src, type=0x1234)
    / Raw(bytes(2)),
    "no Ethernet header, 3 bytes": Raw(bytes(3)),
}


@pytest.mark.parametrize("line", LINES)
def test_a_packet_is_one_line(line):
    frame = bytes(LINES[line])

    assert line == summary(layers(frame), len(frame))


def changed(before, after):
    return {
        str(c) for c in difference(bytes(before), bytes(after)).changes if c.field != "checksum"
    }


def test_only_what_changed_is_told():
    before = E / V4 / TCP(sport=1000, dport=80)
    after = OUT / IP(src="10.0.0.1", dst="10.0.0.11", ttl=63) / TCP(sport=1024, dport=8080)

    assert {
        "eth.dst 02:00:00:00:00:01 -> 02:00:00:00:00:11",
        "eth.src 02:00:00:00:00:02 -> 02:00:00:00:00:12",
        "ip.src 192.0.2.1 -> 10.0.0.1",
        "ip.dst 203.0.113.1 -> 10.0.0.11",
        "ip.ttl 64 -> 63",
        "tcp.sport 1000 -> 1024",
        "tcp.dport 80 -> 8080",
    } == changed(before, after)


def test_what_an_error_quotes_is_told_apart():
    before = E / V4 / ICMP(type=3, code=4) / QUOTE
    inner = IP(src="10.0.0.11", dst="10.0.0.1") / TCP(sport=8080, dport=1024, flags="PA")

    assert {
        "quoted ip.src 203.0.113.1 -> 10.0.0.11",
        "quoted ip.dst 192.0.2.1 -> 10.0.0.1",
        "quoted tcp.sport 80 -> 8080",
        "quoted tcp.dport 1000 -> 1024",
    } == changed(before, E / V4 / ICMP(type=3, code=4) / inner)


@pytest.mark.parametrize("inside", [V4, V6])
@pytest.mark.parametrize("payload", [TCP(sport=1, dport=2), UDP(sport=1, dport=2) / b"data"])
@pytest.mark.parametrize("tag", [False, True])
def test_headers_put_before_a_packet_are_told(inside, payload, tag):
    number = 4 if inside is V4 else 41
    tunnels = {
        ("ip",): IP(src="10.0.0.1", dst="10.0.0.11", proto=number),
        ("ip6",): IPv6(src="fd00::1", dst="fd00::11", nh=number),
        ("ip", "udp"): IP(src="10.0.0.1", dst="10.0.0.11") / UDP(sport=50000, dport=6080),
        ("ip6", "udp"): IPv6(src="fd00::1", dst="fd00::11") / UDP(sport=50000, dport=6080),
    }
    before = bytes((E / Dot1Q(vlan=5) if tag else E) / inside / payload)
    packet = bytes(inside / payload)
    for names, outer in tunnels.items():
        after = bytes(E / outer / Raw(packet))
        found = difference(before, after)

        assert list(names) == [one.name for one in found.added]
        assert [] == list(found.changes)
        assert (["vlan"] if tag else []) == [one.name for one in found.removed]
        below = [one.name for one in layers(before) if one.name not in ("eth", "vlan")]
        assert ["eth", *names, *below] == [one.name for one in found.layers]


def test_a_tag_that_is_put_on_is_told():
    packet = V4 / TCP(sport=1, dport=2)
    found = difference(bytes(E / packet), bytes(E / Dot1Q(vlan=7) / packet))

    assert [("vlan", 7)] == [(one.name, one.fields["vid"]) for one in found.added]


@given(
    st.binary(max_size=80), st.sampled_from([b"", b"\x08\x00\x45", b"\x86\xdd\x60", b"\x81\x00"])
)
def test_any_bytes_can_be_described(data, start):
    frame = bytes(12) + start + data

    assert f"{len(frame)} bytes" in summary(layers(frame), len(frame))
    difference(frame, data + frame)
    difference(frame, frame[: len(data)])
