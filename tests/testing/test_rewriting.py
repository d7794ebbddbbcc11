# SPDX-License-Identifier: Apache-2.0
"""The model's rewriting is right by the checker, which shares no code with it; so is dissecting."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galelb.testing.checksums import checksum_problems
from galelb.testing.dissect import dissect
from galelb.testing.packets import extension, fragments, frame
from galelb.testing.rewriting import Translation, canonical, translate

ENDS = {
    4: ("203.0.113.9", "198.51.100.1", "10.0.0.1", "10.0.0.11"),
    6: ("2001:db8:f::9", "2001:db8:1::1", "fd00::1", "fd00::11"),
}
MACS = {"src_mac": "02:00:00:00:00:01", "dst_mac": "02:00:00:00:00:02"}
PORTS = st.integers(1, 65535)


def to(version: int, sport: int, dport: int) -> Translation:
    _, _, source, node = ENDS[version]
    return Translation(
        src=ip_address(source),
        sport=sport,
        dst=ip_address(node),
        dport=dport,
        src_mac=bytes.fromhex("020000000001"),
        dst_mac=bytes.fromhex("020000000002"),
    )


@given(
    version=st.sampled_from([4, 6]),
    protocol=st.sampled_from(["tcp", "udp"]),
    ports=st.tuples(PORTS, PORTS, PORTS, PORTS),
    ttl=st.integers(2, 255),
    payload=st.binary(max_size=40),
)
def test_a_translated_packet_is_the_one_built_with_the_new_values(
    version: int, protocol: str, ports: tuple[int, ...], ttl: int, payload: bytes
) -> None:
    client, vip, source, node = ENDS[version]
    data = frame(client, vip, *ports[:2], protocol=protocol, ttl=ttl, payload=payload)
    packet = dissect(data)
    assert packet is not None

    result = translate(data, packet, to(version, *ports[2:]))

    expected = frame(
        source, node, *ports[2:], protocol=protocol, ttl=ttl - 1, payload=payload, **MACS
    )
    assert canonical(expected) == canonical(result)
    assert [] == checksum_problems(result)


def test_a_missing_udp_checksum_stays_missing() -> None:
    data = frame(*ENDS[4][:2], 1, 2, protocol="udp", checksum=0, payload=b"x")
    packet = dissect(data)
    assert packet is not None

    result = translate(data, packet, to(4, 3, 4))

    assert b"\0\0" == result[40:42]


def test_a_wrong_checksum_stays_wrong() -> None:
    data = frame(*ENDS[4][:2], 1, 2, checksum=0x1234)
    packet = dissect(data)
    assert packet is not None

    result = translate(data, packet, to(4, 3, 4))

    assert [] != checksum_problems(data)
    assert [] != checksum_problems(result)


def test_tags_are_removed_or_given() -> None:
    data = frame(*ENDS[4][:2], 1, 2, vlans=[5])
    packet = dissect(data)
    assert packet is not None

    plain = dissect(translate(data, packet, to(4, 3, 4)))

    assert (5,) == packet.vlans
    assert plain is not None
    assert () == plain.vlans


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (frame(*ENDS[4][:2], 7, 9), (7, 9, 6, False)),
        (frame(*ENDS[6][:2], 7, 9, protocol="udp"), (7, 9, 17, False)),
        (frame(*ENDS[6][:2], 7, 9, extensions=[extension("hop")] * 6), (7, 9, 6, False)),
        (fragments(frame(*ENDS[4][:2], 7, 9, payload=bytes(99)), 64)[0], (7, 9, 6, True)),
        (fragments(frame(*ENDS[6][:2], 7, 9, payload=bytes(99)), 64)[1], (0, 0, 6, True)),
    ],
)
def test_what_can_be_read_is_read(data: bytes, expected: tuple[int, int, int, bool]) -> None:
    packet = dissect(data)

    assert packet is not None
    assert expected == (packet.sport, packet.dport, packet.protocol, packet.fragment)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        frame(*ENDS[4][:2], 7, 9)[:-1],
        frame(*ENDS[4][:2], 7, 9, vlans=[1, 2, 3]),
        frame(*ENDS[6][:2], 7, 9, extensions=[extension("hop")] * 7),
        frame(*ENDS[4][:2], 7, 9)[:12] + b"\x86\xdd" + frame(*ENDS[4][:2], 7, 9)[14:],
    ],
)
def test_what_the_data_path_cannot_read_is_no_packet(data: bytes) -> None:
    assert dissect(data) is None


@given(st.binary(max_size=120))
def test_dissecting_never_fails(data: bytes) -> None:
    for ethertype in (b"\x08\x00\x45", b"\x86\xdd\x60", b"\x81\x00", b""):
        dissect(bytes(12) + ethertype + data)
