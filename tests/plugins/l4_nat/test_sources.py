# SPDX-License-Identifier: Apache-2.0
"""Source addresses and ports never clash with what the kernel uses."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from galelb_plugins.l4_nat.options import L4NatOptions
from galelb_plugins.l4_nat.sources import (
    MAX_SOURCES,
    number_sources,
    ports_of,
    source_addresses,
)

from galelb.forwarder import HostView
from galelb.model import Interface

VIP = ip_address("10.0.0.100")
OWN = ip_address("10.0.0.1")


def host(*addresses: str, ports: tuple[int, int] = (32768, 60999)) -> HostView:
    own = tuple(ip_address(a) for a in addresses)
    private = Interface(name="priv", ifindex=2, mac="02:00:00:00:00:02", mtu=1500, addresses=own)
    public = Interface(name="pub", ifindex=3, mac="02:00:00:00:00:03", mtu=1500)
    return HostView(
        private=private,
        public=public,
        ip_local_port_range=ports,
        tick_shift=8,
        hz=250,
        flow_seed=1,
    )


def options(**values: Any) -> L4NatOptions:
    return L4NatOptions(**values)


def test_the_pool_defaults_to_the_private_address_that_is_no_vip() -> None:
    machine = host("10.0.0.100", "10.0.0.1", "fe80::1", "fd00::1")

    assert (OWN,) == source_addresses(options(), machine, [VIP], 4)
    assert (ip_address("fd00::1"),) == source_addresses(options(), machine, [VIP], 6)


def test_a_vip_serves_as_source_when_there_is_nothing_else() -> None:
    assert (VIP,) == source_addresses(options(), host("10.0.0.100"), [VIP], 4)


def test_there_may_be_no_source_of_a_family() -> None:
    assert () == source_addresses(options(), host("10.0.0.1", "fe80::1"), [], 6)


def test_a_configured_pool_wins() -> None:
    pool = (ip_address("10.0.0.50"), ip_address("fd00::50"), ip_address("10.0.0.51"))

    assert (pool[0], pool[2]) == source_addresses(
        options(source_addresses=pool), host("10.0.0.1"), [], 4
    )


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        ((32768, 60999), (1024, 32767)),
        ((1024, 9999), (10000, 65535)),
        ((10000, 65535), (1024, 9999)),
        ((1, 2000), (2001, 65535)),
    ],
)
def test_ports_keep_out_of_the_kernels_range(
    kernel: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert expected == ports_of(OWN, options(), host("10.0.0.1", ports=kernel))


def test_an_address_of_our_own_has_all_ports() -> None:
    assert (1024, 65535) == ports_of(ip_address("10.0.0.50"), options(), host("10.0.0.1"))


def test_configured_ports_win() -> None:
    assert (5000, 5999) == ports_of(OWN, options(ports=(5000, 5999)), host("10.0.0.1"))


def test_addresses_keep_their_numbers() -> None:
    first = number_sources([OWN, VIP], {})
    second = number_sources([VIP, ip_address("10.0.0.7")], first)

    assert {0: OWN, 1: VIP} == first
    assert {0: OWN, 1: VIP, 2: ip_address("10.0.0.7")} == second


def test_stale_addresses_go_only_when_numbers_run_out() -> None:
    held = {n: ip_address(f"10.1.{n >> 8}.{n & 255}") for n in range(MAX_SOURCES)}

    numbers = number_sources([*list(held.values())[1:], OWN], held)

    assert OWN == numbers[0]
    assert MAX_SOURCES == len(numbers)
