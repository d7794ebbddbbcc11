# SPDX-License-Identifier: Apache-2.0
"""Built frames are right, and the checksum checker sees what is wrong."""

from __future__ import annotations

import pytest

from galelb.testing.checksums import checksum_problems
from galelb.testing.packets import (
    arp_request,
    extension,
    fragments,
    frame,
    icmp_echo,
    icmp_error,
    l3_offset,
)

V4 = ("203.0.113.9", "198.51.100.1")
V6 = ("2001:db8:f::9", "2001:db8:1::1")


def built() -> dict[str, bytes]:
    inner4 = frame(*V4, 1, 2, payload=b"x" * 30)
    inner6 = frame(*V6, 1, 2, payload=b"x" * 31, protocol="udp")
    return {
        "tcp4": frame(*V4, 40000, 80),
        "tcp4_odd": frame(*V4, 40000, 80, payload=b"abc"),
        "udp4": frame(*V4, 40000, 53, protocol="udp", payload=b"q"),
        "options": frame(*V4, 40000, 80, options=b"\x94\x04\x00\x00"),
        "padded": frame(*V4, 40000, 80, minimum=60),
        "tcp6": frame(*V6, 40000, 80),
        "udp6": frame(*V6, 40000, 53, protocol="udp", payload=b"abc"),
        "vlan": frame(*V4, 40000, 80, vlans=[5, 6]),
        "extensions": frame(
            *V6, 40000, 80, extensions=[extension(k) for k in ("hop", "routing", "auth", "dest")]
        ),
        "atomic": frame(*V6, 40000, 80, extensions=[extension("atomic")]),
        "ping4": icmp_echo(*V4),
        "ping6": icmp_echo(*V6),
        "error4": icmp_error(*V4, inner4, kind=3, code=4, rest=1400),
        "error6": icmp_error(*V6, inner6, kind=2, rest=1280),
        "error4_cut": icmp_error(*V4, inner4, kind=11, truncate=28),
    }


@pytest.mark.parametrize("name", list(built()))
def test_a_built_frame_has_right_checksums(name: str) -> None:
    assert [] == checksum_problems(built()[name])


@pytest.mark.parametrize("name", ["tcp4", "udp4", "tcp6", "udp6", "error4", "error6", "atomic"])
def test_a_changed_transport_byte_is_noticed(name: str) -> None:
    data = bytearray(built()[name])
    data[-1] ^= 1

    assert [] != checksum_problems(bytes(data))


def test_a_changed_ipv4_header_is_noticed() -> None:
    data = bytearray(built()["tcp4"])
    data[14 + 8] -= 1

    assert ["IPv4 header checksum"] == checksum_problems(bytes(data))


def test_udp_without_checksum_is_fine_in_ipv4_only() -> None:
    assert [] == checksum_problems(frame(*V4, 1, 2, protocol="udp", checksum=0))
    assert ["UDP checksum 0 over IPv6"] == checksum_problems(
        frame(*V6, 1, 2, protocol="udp", checksum=0)
    )


@pytest.mark.parametrize("addresses", [V4, V6])
def test_fragments_cover_the_datagram(addresses: tuple[str, str]) -> None:
    whole = frame(*addresses, 1, 2, protocol="udp", payload=bytes(range(200)))

    parts = fragments(whole, 64)

    assert 4 == len(parts)
    header = 48 if ":" in addresses[0] else 20
    joined = b"".join(part[14 + header :] for part in parts)
    assert joined == whole[14 + (40 if ":" in addresses[0] else 20) :]
    assert [[]] * 4 == [checksum_problems(part) for part in parts]


def test_an_arp_request_has_the_minimum_size() -> None:
    assert 60 == len(arp_request("10.0.0.1", "10.0.0.2"))


def test_the_ip_header_is_found_behind_tags() -> None:
    assert 22 == l3_offset(frame(*V4, 1, 2, vlans=[1, 2]))
