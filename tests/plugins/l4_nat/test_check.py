# SPDX-License-Identifier: Apache-2.0
"""What l4_nat refuses before it runs, what it promises, and the macros that it compiles with."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import attrs
import pytest
from galelb_plugins.l4_nat.layout import macros
from galelb_plugins.l4_nat.options import L4NatOptions
from galelb_plugins.l4_nat.plugin import L4Nat


def forwarder(**values: Any) -> L4Nat:
    return L4Nat(L4NatOptions(**values))


def test_the_defaults_have_no_problems(machine) -> None:
    services = [machine.service(), machine.service("v6", vip="2001:db8::1")]

    assert [] == forwarder().check(services, machine.host("10.0.0.1", "fd00::1"))
    assert [] == forwarder().check(services, None)


def test_an_ipv6_service_needs_an_ipv6_source(machine) -> None:
    services = [machine.service("v6", vip="2001:db8::1")]

    (problem,) = forwarder().check(services, machine.host("10.0.0.1", "fe80::1"))

    assert "v6" in problem
    assert "IPv6" in problem
    assert "priv" in problem
    pool = (ip_address("fd00::5"),)
    assert [] == forwarder(source_addresses=pool).check(services, machine.host("10.0.0.1"))


def test_dnat_refuses_settings_without_effect(machine) -> None:
    chosen = forwarder(mode="dnat", ports=(2000, 2999), source_addresses=(ip_address("10.0.0.9"),))

    problems = chosen.check([machine.service()], None)

    assert ["source_addresses", "ports"] == [p.split(":")[0] for p in problems]
    assert [] == forwarder(mode="dnat").check([machine.service()], machine.host())


def test_ports_that_the_kernel_uses_on_the_same_address_are_refused(machine) -> None:
    chosen = forwarder(ports=(30000, 40000))

    (problem,) = chosen.check([machine.service()], machine.host("10.0.0.1"))

    assert "30000-40000" in problem
    assert "32768-60999" in problem


def test_ports_are_free_on_an_address_that_the_kernel_does_not_use(machine) -> None:
    chosen = forwarder(ports=(30000, 40000), source_addresses=(ip_address("10.0.0.9"),))

    assert [] == chosen.check([machine.service()], machine.host("10.0.0.1"))


def test_a_kernel_range_that_leaves_too_few_ports_is_refused(machine) -> None:
    (problem,) = forwarder().check(
        [machine.service()], machine.host("10.0.0.1", ports=(1024, 65500))
    )

    assert "ip_local_port_range" in problem


def test_too_many_source_addresses_are_refused(machine) -> None:
    pool = tuple(ip_address(f"10.1.0.{n}") for n in range(65))

    (problem,) = forwarder(source_addresses=pool).check([machine.service()], None)

    assert "at most 64 IPv4" in problem


def test_capacity_is_told_at_start(machine) -> None:
    services = [machine.service()]
    pool = (ip_address("10.1.0.1"), ip_address("10.1.0.2"))

    (one,) = forwarder().notes(services, machine.host("10.0.0.1"))
    (two,) = forwarder(source_addresses=pool).notes(services, machine.host("10.0.0.1"))

    assert "31744 flows per node" in one
    assert "129024 flows per node" in two


@pytest.mark.parametrize(
    ("pool", "stuck"), [((), True), (("10.0.0.1", "10.0.0.201"), True), (("10.0.0.201",), False)]
)
def test_in_a_group_it_is_said_which_connections_cannot_move(machine, pool, stuck) -> None:
    host = attrs.evolve(machine.host("10.0.0.1"), grouped=True)
    options = {"source_addresses": tuple(map(ip_address, pool))}

    notes = forwarder(**options).notes([machine.service()], host)

    assert stuck is any("connections from 10.0.0.1 end with this balancer" in n for n in notes)
    assert 1 == len(forwarder(**options).notes([machine.service()], machine.host("10.0.0.1")))


@pytest.mark.parametrize(("flows", "buckets"), [(1024, 512), (262144, 131072), (1025, 1024)])
def test_tables_have_twice_as_many_entries_as_flows(machine, flows: int, buckets: int) -> None:
    defined = macros(L4NatOptions(max_flows=flows), [machine.service()], machine.host("10.0.0.1"))

    assert buckets == defined["L4_NAT_BUCKETS4"] == defined["L4_NAT_BUCKETS6"]
    assert 4 * buckets >= 2 * flows


def test_timeouts_are_compiled_in_as_ticks(machine) -> None:
    defined = macros(L4NatOptions(), [machine.service()], machine.host("10.0.0.1"))

    assert 5 == defined["L4_NAT_TCP_SYN"]
    assert 7032 == defined["L4_NAT_TCP_ESTABLISHED"]
    assert 31744 * 64 == defined["L4_NAT_PORT_SLOTS4"]
    assert "L4_NAT_DNAT" not in defined


def test_ports_of_services_at_a_source_address_are_reserved(machine) -> None:
    services = [machine.service(vip="10.0.0.1", port=8080), machine.service(port=53)]
    chosen = L4NatOptions()

    defined = macros(chosen, services, machine.host("10.0.0.1"))

    assert "((port) == 8080u)" == defined["L4_NAT_RESERVED_PORT(port)"]
    assert "L4_NAT_RESERVED_PORT(port)" not in macros(
        chosen, [machine.service()], machine.host("10.0.0.1")
    )


def test_dnat_asks_for_tc_on_public_egress() -> None:
    assert forwarder(mode="dnat").needs_tc_egress
    assert not forwarder().needs_tc_egress
