# SPDX-License-Identifier: Apache-2.0
"""Frames in a few words: every kind, in tunnels, cut anywhere, and noise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NS,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

from galelb.capture.summary import summarise

ETH = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
V4 = IP(src="203.0.113.9", dst="198.51.100.1")
V6 = IPv6(src="2001:db8:9::9", dst="2001:db8:1::1")
SYN = TCP(sport=40001, dport=80)
INNER = "203.0.113.9:40001 > 198.51.100.1:80 tcp [S]"
OUTER = IP(src="10.0.0.1", dst="10.0.0.11")
CASES: list[tuple[Packet, str]] = [
    (ETH / V4 / SYN, INNER),
    (ETH / V4 / TCP(sport=1, dport=2, flags="PA"), "203.0.113.9:1 > 198.51.100.1:2 tcp [P.]"),
    (ETH / V4 / TCP(sport=1, dport=2, flags=""), "203.0.113.9:1 > 198.51.100.1:2 tcp [none]"),
    (ETH / V4 / UDP(sport=1, dport=53), "203.0.113.9:1 > 198.51.100.1:53 udp"),
    (ETH / V6 / SYN, "[2001:db8:9::9]:40001 > [2001:db8:1::1]:80 tcp [S]"),
    (
        ETH / V6 / IPv6ExtHdrDestOpt() / UDP(sport=1, dport=2),
        "[2001:db8:9::9]:1 > [2001:db8:1::1]:2 udp",
    ),
    (ETH / Dot1Q(vlan=5) / V4 / SYN, f"{INNER} vlan 5"),
    (ETH / Dot1Q(vlan=5, prio=3) / Dot1Q(vlan=6) / V4 / SYN, f"{INNER} vlan 5 vlan 6"),
    (ETH / V4.copy() / ICMP(), "203.0.113.9 > 198.51.100.1 icmp echo request"),
    (ETH / V4 / ICMP(type=11), "203.0.113.9 > 198.51.100.1 icmp time exceeded"),
    (
        ETH / V4 / ICMP(type=3, code=4, nexthopmtu=1400),
        "203.0.113.9 > 198.51.100.1 icmp fragmentation needed, mtu 1400",
    ),
    (ETH / V4 / ICMP(type=99), "203.0.113.9 > 198.51.100.1 icmp type 99"),
    (ETH / V6 / ICMPv6EchoRequest(), "2001:db8:9::9 > 2001:db8:1::1 icmp6 echo request"),
    (ETH / V6 / ICMPv6PacketTooBig(), "2001:db8:9::9 > 2001:db8:1::1 icmp6 packet too big"),
    (ETH / V6 / ICMPv6ND_NS(), "2001:db8:9::9 > 2001:db8:1::1 icmp6 neighbour solicitation"),
    (
        ETH / IP(src="203.0.113.9", dst="198.51.100.1", frag=185, proto=17) / Raw(bytes(99)),
        "203.0.113.9 > 198.51.100.1 udp fragment at 1480",
    ),
    (
        ETH / V6 / IPv6ExtHdrFragment(offset=2, nh=6) / Raw(bytes(99)),
        "2001:db8:9::9 > 2001:db8:1::1 tcp fragment at 16",
    ),
    (ETH / OUTER / V4 / SYN, f"10.0.0.1 > 10.0.0.11 ipip ({INNER})"),
    (ETH / V6 / V4 / SYN, f"2001:db8:9::9 > 2001:db8:1::1 ipip ({INNER})"),
    (
        ETH / OUTER / UDP(sport=5, dport=6080) / V4 / SYN,
        f"10.0.0.1:5 > 10.0.0.11:6080 gue ({INNER})",
    ),
    (ETH / OUTER / UDP(sport=5, dport=6080) / Raw(b"\xff"), "10.0.0.1:5 > 10.0.0.11:6080 udp"),
    (ETH / IP(src="1.2.3.4", dst="5.6.7.8", proto=132), "1.2.3.4 > 5.6.7.8 protocol 132"),
    (ETH / ARP(psrc="10.0.0.1", pdst="10.0.0.2"), "arp who has 10.0.0.2, tell 10.0.0.1"),
    (ETH / ARP(op=2, psrc="10.0.0.1", pdst="10.0.0.2"), "arp 10.0.0.1 is here"),
    (Ether(type=0x88CC) / Raw(b"lldp"), "ethertype 0x88cc"),
]


@pytest.mark.parametrize(("packet", "text"), CASES, ids=[text for _, text in CASES])
def test_frames_in_a_few_words(packet: Packet, text: str) -> None:
    assert text == str(summarise(bytes(packet)))


def test_options_do_not_hide_ports() -> None:
    packet = ETH / IP(src="1.2.3.4", dst="5.6.7.8", options=b"\x94\x04\0\0") / UDP(sport=1, dport=2)

    assert "1.2.3.4:1 > 5.6.7.8:2 udp" == str(summarise(bytes(packet)))


def test_packets_in_packets_without_end_are_not_followed() -> None:
    packet = ETH / OUTER / OUTER / OUTER / OUTER / OUTER

    assert 2 == str(summarise(bytes(packet))).count("(")


@pytest.mark.parametrize(("packet", "text"), CASES, ids=[text for _, text in CASES])
def test_a_frame_may_end_anywhere(packet: Packet, text: str) -> None:
    data = bytes(packet)

    assert all(str(summarise(data[:length])) for length in range(len(data)))


@given(st.binary(max_size=120), st.sampled_from([0x0800, 0x86DD, 0x8100, 0x0806]))
def test_noise_is_something(noise: bytes, kind: int) -> None:
    assert str(summarise(bytes(12) + kind.to_bytes(2, "big") + noise))
