# SPDX-License-Identifier: Apache-2.0
"""Notes about interfaces and addresses that keep packets away."""

from __future__ import annotations

from ipaddress import ip_address

from structlog.testing import capture_logs

from galelb.control.host_notes import address_notes, api_addresses, veth_notes
from galelb.model import Interface, Protocol, Service


def interface(name: str, *addresses: str, kind: str = "") -> Interface:
    return Interface(
        name=name,
        ifindex=2,
        mac="02:00:00:00:00:01",
        mtu=1500,
        addresses=tuple(map(ip_address, addresses)),
        kind=kind,
    )


def service(name: str, vip: str) -> Service:
    return Service(
        name=name,
        vip=ip_address(vip),
        port=80,
        protocol=Protocol.TCP,
        target_port=8080,
        forwarder="l4_nat",
    )


def test_hardware_needs_no_note_about_veth() -> None:
    assert [] == veth_notes([interface("eth0"), interface("eth1")], {"eth0", "eth1"})


def test_a_veth_that_is_not_native_needs_no_note() -> None:
    assert [] == veth_notes([interface("eth0", kind="veth")], set())


def test_a_veth_is_named_once_when_it_has_both_roles() -> None:
    one = interface("eth0", kind="veth")

    (note,) = veth_notes([one, one], {"eth0"})

    assert note.endswith("there (eth0)")
    assert "ethtool -K DEVICE gro on tx off" in note


def test_a_vip_that_no_interface_has_is_named_with_its_service() -> None:
    here = [interface("eth0", "192.0.2.1"), interface("eth1", "203.0.113.10")]

    (note,) = address_notes(here, [service("web", "203.0.113.10"), service("mail", "203.0.113.77")])

    assert note.startswith("mail: 203.0.113.77 is no address")


def test_the_api_stays_off_addresses_that_clients_reach() -> None:
    private = interface("eth0", "192.0.2.1", "10.0.0.1")

    assert (ip_address("10.0.0.1"),) == api_addresses(private, [service("web", "192.0.2.1")])


def test_the_api_is_on_a_vip_when_there_is_no_other_address_and_says_so() -> None:
    private = interface("eth0", "192.0.2.1")

    with capture_logs() as logs:
        assert private.addresses == api_addresses(private, [service("web", "192.0.2.1")])

    assert ["api_on_vip"] == [entry["event"] for entry in logs]
