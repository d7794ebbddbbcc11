# SPDX-License-Identifier: Apache-2.0
"""Messages of mDNS, good and bad; that real networks are asked is in tests/netns."""

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.dns import DNS, DNSQR, DNSRR

from galelb.node.mdns import answers, is_mdns_name, question

HOST = "lb-0.local"
V4, V6 = "10.0.0.1", "fd00::1"


def response(*records, qd=(), qr=1):
    return bytes(DNS(qr=qr, aa=1, qd=list(qd), an=list(records)))


def a(name=HOST, address=V4, kind="A", rclass=0x8001):
    return DNSRR(rrname=name, type=kind, rclass=rclass, ttl=120, rdata=address)


@pytest.mark.parametrize(
    ("name", "is_one"),
    [("lb-0.local", True), ("LB.Local.", True), ("local", False), ("lb.local.example", False)],
)
def test_which_names_are_of_mdns(name, is_one):
    assert is_one == is_mdns_name(name)


def test_the_question_is_for_both_families_and_for_us_alone():
    asked = DNS(question(f"{HOST}."))

    assert (0, 2, 0) == (asked.qr, asked.qdcount, asked.ancount)
    assert [(b"lb-0.local.", 1, 1, 1), (b"lb-0.local.", 28, 1, 1)] == [
        (one.qname, one.qtype, one.qclass, one.unicastresponse) for one in asked.qd
    ]


@pytest.mark.parametrize("name", [HOST, "LB-0.LOCAL"])
def test_all_addresses_are_found(name):
    message = response(a(name), a(name, V6, "AAAA"), a("lb-1.local", "10.0.0.2"))

    assert [ip_address(V4), ip_address(V6)] == list(answers(message, HOST))


def test_a_repeated_question_is_skipped_and_pointers_are_followed():
    head = struct.pack("!6H", 0, 0x8400, 1, 1, 0, 0)
    asked = b"\x04lb-0\x05local\0" + struct.pack("!HH", 1, 1)
    record = struct.pack("!HHHIH", 0xC000 | 12, 1, 0x8001, 120, 4) + bytes([10, 0, 0, 1])

    assert [ip_address(V4)] == list(answers(head + asked + record, HOST))


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\0" * 11,
        question(HOST),
        response(a(), qr=0),
        response(a("lb-1.local")),
        response(a(rclass=3)),
        response(a(address="fe80::1", kind="AAAA")),
        response(a())[:-1],
        # A name that points at itself.
        struct.pack("!6H", 0, 0x8400, 0, 1, 0, 0) + b"\xc0\x0c" + b"\0" * 14,
        # More records than there are.
        struct.pack("!6H", 0, 0x8400, 0, 65535, 65535, 65535) + b"\0" * 40,
    ],
    ids=lambda message: message[:20].hex() or "empty",
)
def test_nothing_is_found_in_others_messages_and_bad_ones(message):
    assert [] == list(answers(message, HOST))


@given(st.binary(max_size=200))
def test_no_message_does_harm(data):
    for message in (data, response(a()) + data, response(a())[:12] + data):
        for address in answers(message, HOST):
            assert address.version in (4, 6)


def test_records_of_other_kinds_are_passed_over():
    text = DNSRR(rrname=HOST, type="TXT", rdata=[b"x" * 40])
    message = response(text, a(), qd=[DNSQR(qname=HOST)])

    assert [ip_address(V4)] == list(answers(message, HOST))
