# SPDX-License-Identifier: Apache-2.0
"""The parser of netlink announcements: real messages, and any bytes at all."""

import socket
import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galelb.netlink import (
    AddressChanged,
    LinkChanged,
    NeighbourChanged,
    NeighbourState,
    RouteChanged,
)
from galelb.netlink.events import parse

MAC = bytes.fromhex("020000000001")


def message(kind, body):
    raw = struct.pack("=IHHII", 16 + len(body), kind, 0, 7, 8) + body
    return raw + bytes(-len(raw) % 4)


def attributes(**found):
    raw = b""
    for name, value in found.items():
        raw += struct.pack("=HH", 4 + len(value), int(name[1:])) + value
        raw += bytes(-len(raw) % 4)
    return raw


def link(kind=16, *, family=0, flags=0x10001, **found):
    found = {"a3": b"eth0\0", "a1": MAC, "a4": struct.pack("=I", 1500)} | found
    return message(kind, struct.pack("=BxHiII", family, 1, 2, flags, 0) + attributes(**found))


def neighbour(kind=28, *, family=socket.AF_INET, state=2, **found):
    found = {"a1": bytes([10, 0, 0, 2]), "a2": MAC} | found
    return message(kind, struct.pack("=B3xiHBB", family, 2, state, 0, 1) + attributes(**found))


def route(kind=24, *, family=socket.AF_INET, prefix=24, table=254, flags=0, **found):
    body = struct.pack("=BBBBBBBBI", family, prefix, 0, 0, table, 3, 0, 1, flags)
    return message(kind, body + attributes(**found))


LINK = LinkChanged(ifindex=2, name="eth0", mac=MAC.hex(":"), mtu=1500, up=True)
NEIGHBOUR = NeighbourChanged(
    ifindex=2, address=ip_address("10.0.0.2"), mac=MAC.hex(":"), state=NeighbourState.REACHABLE
)


def changed(value, **fields):
    import attrs

    return attrs.evolve(value, **fields)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (link(), LINK),
        (link(flags=1), changed(LINK, up=False)),
        (link(flags=0x10000), changed(LINK, up=False)),
        (link(17), changed(LINK, removed=True)),
        (link(a1=b""), changed(LINK, mac="")),
        (neighbour(), NEIGHBOUR),
        (neighbour(29), changed(NEIGHBOUR, removed=True)),
        (neighbour(state=0x20), changed(NEIGHBOUR, state=NeighbourState.FAILED, mac=None)),
        (neighbour(state=0x80), changed(NEIGHBOUR, state=NeighbourState.PERMANENT)),
        (neighbour(state=0x04), changed(NEIGHBOUR, state=NeighbourState.STALE)),
        (neighbour(a2=b""), changed(NEIGHBOUR, mac=None)),
        (
            neighbour(family=socket.AF_INET6, a1=ip_address("fd00::2").packed),
            changed(NEIGHBOUR, address=ip_address("fd00::2")),
        ),
        (
            route(a1=bytes([10, 1, 0, 0]), a4=struct.pack("=I", 2)),
            RouteChanged(
                family=2, table=254, destination=ip_address("10.1.0.0"), prefix=24, ifindex=2
            ),
        ),
        (
            route(25, prefix=0, table=252, a15=struct.pack("=I", 70000)),
            RouteChanged(
                family=2, table=70000, destination=None, prefix=0, ifindex=None, removed=True
            ),
        ),
        (
            message(
                20, struct.pack("=BBBBi", 2, 24, 0, 0, 2) + attributes(a1=bytes([10, 0, 0, 1]))
            ),
            AddressChanged(ifindex=2, address=ip_address("10.0.0.1"), prefix=24),
        ),
        (
            message(
                21,
                struct.pack("=BBBBi", 2, 32, 0, 0, 2)
                + attributes(a1=bytes([10, 0, 0, 9]), a2=bytes([10, 0, 0, 1])),
            ),
            AddressChanged(ifindex=2, address=ip_address("10.0.0.1"), prefix=32, removed=True),
        ),
    ],
)
def test_announcements_are_understood(data, expected):
    assert [expected] == list(parse(data))


@pytest.mark.parametrize(
    "data",
    [
        link(family=7),
        neighbour(family=7),
        neighbour(a1=b"abc"),
        route(family=129),
        route(flags=0x200),
        message(3, b""),
        message(28, b"\x02"),
        b"",
        link()[:-1],
        b"\0" * 64,
    ],
)
def test_what_is_foreign_or_broken_is_skipped(data):
    assert [] == list(parse(data))


def test_one_read_may_hold_many_announcements():
    assert [LINK, NEIGHBOUR, LINK] == list(parse(link() + message(3, b"x") + neighbour() + link()))


@given(st.binary(max_size=300))
def test_no_bytes_break_the_parser(data):
    list(parse(data))


@given(
    st.sampled_from([link(), neighbour(), route(a1=bytes(4))]),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_no_damage_breaks_the_parser(data, damage):
    damaged = bytearray(data)
    for at, value in damage:
        damaged[at % len(damaged)] = value
    list(parse(bytes(damaged)))
