# SPDX-License-Identifier: Apache-2.0
"""Packets as scapy reads and writes them."""

from ipaddress import ip_address

import pytest
from galelb_plugins.health_probe.segments import (
    Endpoints,
    Flag,
    Segment,
    packet_of,
    parse_packet,
)
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6

from galelb.testing.checksums import checksum_problems

ENDS = {
    4: Endpoints(ip_address("10.0.0.1"), 40000, ip_address("192.0.2.10"), 80),
    6: Endpoints(ip_address("fd00::1"), 40000, ip_address("2001:db8::10"), 443),
}
ETHERTYPES = {4: b"\x08\x00", 6: b"\x86\xdd"}
IPS = {4: IP, 6: IPv6}


@pytest.mark.parametrize("payload", [b"", b"x", b"GET / HTTP/1.1\r\n\r\n"])
@pytest.mark.parametrize("version", [4, 6])
def test_segments_are_good_packets(version, payload):
    ends = ENDS[version]
    packet = packet_of(ends, Segment(Flag.ACK | Flag.PSH, 0xFFFFFFFF, 7, payload))

    seen = IPS[version](packet)
    assert (str(ends.source), str(ends.target)) == (seen.src, seen.dst)
    assert (ends.source_port, ends.target_port) == (seen[TCP].sport, seen[TCP].dport)
    assert (0xFFFFFFFF, 7, "PA", payload) == (
        seen[TCP].seq,
        seen[TCP].ack,
        str(seen[TCP].flags),
        bytes(seen[TCP].payload),
    )
    assert [] == checksum_problems(bytes(12) + ETHERTYPES[version] + packet)


@pytest.mark.parametrize("version", [4, 6])
def test_packets_go_no_farther_than_the_node(version):
    seen = IPS[version](packet_of(ENDS[version], Segment(Flag.SYN, 1)))

    assert 1 == (seen.ttl if version == 4 else seen.hlim)


@pytest.mark.parametrize("version", [4, 6])
def test_nodes_are_told_to_send_little_at_once(version):
    seen = IPS[version](packet_of(ENDS[version], Segment(Flag.SYN, 1)))

    assert [("MSS", 1200)] == seen[TCP].options
    assert [] == checksum_problems(bytes(12) + ETHERTYPES[version] + bytes(seen))


@pytest.mark.parametrize("version", [4, 6])
def test_answers_are_read(version):
    addresses = {4: ("192.0.2.10", "10.0.0.1"), 6: ("2001:db8::10", "fd00::1")}
    src, dst = addresses[version]
    tcp = TCP(sport=80, dport=40000, seq=5, ack=6, flags="SA", options=[("MSS", 1460)])
    packet = bytes(IPS[version](src=src, dst=dst) / tcp / b"data") + b"padding"

    assert (40000, Segment(Flag.SYN | Flag.ACK, 5, 6, b"data")) == parse_packet(packet)


def test_ip_options_are_stepped_over():
    packet = bytes(IP(options=b"\x01" * 8) / TCP(dport=40000, flags="A") / b"data")

    assert b"data" == parse_packet(packet)[1].payload


@pytest.mark.parametrize("version", [4, 6])
def test_what_is_cut_off_is_unreadable(version):
    packet = packet_of(ENDS[version], Segment(Flag.ACK, 1, 2, b"data"))

    assert {None} == {parse_packet(packet[:length]) for length in range(len(packet))}


def test_a_header_length_that_lies_is_unreadable():
    packet = bytearray(packet_of(ENDS[4], Segment(Flag.ACK, 1, 2)))
    packet[32] = 0xF0

    assert parse_packet(bytes(packet)) is None
