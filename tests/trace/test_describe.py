# SPDX-License-Identifier: Apache-2.0
"""What differs between frames as they came and as they left."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.all import (
    ICMP,
    IP,
    TCP,
    UDP,
    Dot1Q,
    Ether,
    IPv6,
    Raw,
)

from galelb.trace.describe import difference
from galelb.trace.layers import layers

E = Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02")
OUT = Ether(dst="02:00:00:00:00:11", src="02:00:00:00:00:12")
V4 = IP(src="192.0.2.1", dst="203.0.113.1")
V6 = IPv6(src="2001:db8::1", dst="2001:db8::2")
QUOTE = IP(src="203.0.113.1", dst="192.0.2.1") / TCP(sport=80, dport=1000, flags="PA")


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
def test_any_bytes_can_be_compared(data, start):
    frame = bytes(12) + start + data

    assert "eth" == layers(frame + b"12")[0].name
    difference(frame, data + frame)
    difference(frame, frame[: len(data)])
