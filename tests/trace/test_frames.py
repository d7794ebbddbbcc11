# SPDX-License-Identifier: Apache-2.0
"""Frames made of what files hold: other link types, and packets that were cut short."""

import pytest
from scapy.all import IP, UDP, CookedLinux, CookedLinuxV2, Ether, IPv6

from galelb.pcap import LinkType, Record
from galelb.trace.frames import ethernet

OURS, THEIRS = "02:00:00:00:00:01", "02:00:00:00:00:fe"
SENDER = "02:00:00:00:00:77"
V4 = bytes(IP(src="192.0.2.1", dst="192.0.2.2") / UDP() / b"query")
V6 = bytes(IPv6(src="2001:db8::1", dst="2001:db8::2") / UDP() / b"query")


def made(data, link, length=None):
    length = len(data) if length is None else length
    record = Record(number=1, time_ns=0, link=link, data=data, length=length)
    return ethernet(record, OURS, THEIRS)


def expected(packet, src=THEIRS):
    kind = 0x86DD if packet[0] >> 4 == 6 else 0x0800
    return bytes(Ether(dst=OURS, src=src, type=kind)) + packet


CASES = {
    "raw v4": (V4, LinkType.RAW, V4, THEIRS),
    "raw v6": (V6, LinkType.RAW, V6, THEIRS),
    "raw of bsd": (V4, LinkType.RAW_BSD, V4, THEIRS),
    "raw of openbsd": (V6, LinkType.RAW_OPENBSD, V6, THEIRS),
    "ipv4": (V4, LinkType.IPV4, V4, THEIRS),
    "ipv6": (V6, LinkType.IPV6, V6, THEIRS),
    "null": (b"\x02\x00\x00\x00" + V4, LinkType.NULL, V4, THEIRS),
    "loop": (b"\x00\x00\x00\x18" + V6, LinkType.LOOP, V6, THEIRS),
    "cooked": (
        bytes(CookedLinux(src=bytes.fromhex(SENDER.replace(":", "")), lladdrlen=6)) + V4,
        LinkType.LINUX_SLL,
        V4,
        SENDER,
    ),
    "cooked without address": (
        bytes(CookedLinux(lladdrlen=0, proto=0x86DD)) + V6,
        LinkType.LINUX_SLL,
        V6,
        THEIRS,
    ),
    "cooked 2": (
        bytes(CookedLinuxV2(src=bytes.fromhex(SENDER.replace(":", "")), lladdrlen=6)) + V4,
        LinkType.LINUX_SLL2,
        V4,
        SENDER,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_missing_ethernet_header_is_made_up(name):
    data, link, packet, sender = CASES[name]
    frame = made(data, link)

    assert expected(packet, sender) == frame.data
    assert ("it had no Ethernet header: one was made up",) == frame.notes


def test_a_frame_stays_as_it_is():
    frame = made(expected(V4), LinkType.ETHERNET)

    assert (expected(V4), 0, ()) == (frame.data, frame.padding, frame.notes)


@pytest.mark.parametrize("link", [LinkType.ETHERNET, LinkType.RAW])
def test_what_was_not_captured_counts_as_zeros(link):
    whole = expected(V4)
    data = whole[:40] if link == LinkType.ETHERNET else whole[14:40]
    frame = made(data, link, len(data) + 60)

    assert whole[:40] + bytes(60) == frame.data
    assert 60 == frame.padding
    assert "60 of its bytes were not captured: they count as zeros" in frame.notes


@pytest.mark.parametrize(
    ("data", "link", "length", "problem"),
    [
        (b"", 1, None, "0 bytes are less than an Ethernet header"),
        (bytes(13), 1, None, "13 bytes are less than an Ethernet header"),
        (bytes(13), 1, 60, "13 bytes are less than an Ethernet header"),
        (bytes(60), 1, 70_000, "70000 bytes are more than can be run"),
        (bytes(60), 105, None, "link type 105 is not supported, only Ethernet, raw IP and Linux"),
        (b"", LinkType.RAW, None, "it is neither IPv4 nor IPv6"),
        (b"\x10" * 30, LinkType.RAW, None, "it is neither IPv4 nor IPv6"),
        (b"\x02\x00", LinkType.NULL, None, "it is neither IPv4 nor IPv6"),
        (bytes(15), LinkType.LINUX_SLL, None, "15 bytes are less than its link-layer header"),
        (bytes(19), LinkType.LINUX_SLL2, None, "19 bytes are less than its link-layer header"),
        (bytes(40), LinkType.LINUX_SLL, None, "protocol 0x0000 of Linux cooked is no Ethernet"),
    ],
)
def test_what_cannot_be_run_says_why(data, link, length, problem):
    assert made(data, link, length).problem.startswith(problem)
