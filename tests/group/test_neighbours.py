# SPDX-License-Identifier: Apache-2.0
"""What neighbours are told and when: frames as RFCs have them, and a schedule without a clock."""

import random
from ipaddress import ip_address

import pytest
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from galelb.announcer import Held, HeldKind
from galelb.group.neighbour_packets import announcements
from galelb.group.neighbour_schedule import Schedule
from galelb.group.neighbours import NeighbourAnnouncer
from galelb.netlink import LinkChanged

MAC = bytes.fromhex("020000000102")
MAC_TEXT = "02:00:00:00:01:02"


def held(last=10, interface="pub0"):
    return Held(address=ip_address(f"192.0.2.{last}"), interface=interface, kind=HeldKind.VIP)


ONE, TWO = held(1), held(2, "priv0")


def test_an_ipv4_address_is_announced_as_a_request_and_as_a_reply():
    request, reply = (Ether(frame) for frame in announcements(MAC, ip_address("192.0.2.10")))

    for frame, operation, target in ((request, 1, "00:00:00:00:00:00"), (reply, 2, MAC_TEXT)):
        arp = frame[ARP]
        assert ("ff:ff:ff:ff:ff:ff", MAC_TEXT) == (frame.dst, frame.src)
        assert (operation, MAC_TEXT, target) == (arp.op, arp.hwsrc, arp.hwdst)
        assert ("192.0.2.10", "192.0.2.10") == (arp.psrc, arp.pdst)
        assert (1, 0x0800, 6, 4) == (arp.hwtype, arp.ptype, arp.hwlen, arp.plen)


@pytest.mark.parametrize("router", [False, True])
def test_an_ipv6_address_is_announced_by_an_overriding_advertisement(router):
    (data,) = announcements(MAC, ip_address("2001:db8::10"), router=router)
    frame = Ether(data)
    advertisement = frame[ICMPv6ND_NA]

    assert ("33:33:00:00:00:01", MAC_TEXT) == (frame.dst, frame.src)
    assert ("2001:db8::10", "ff02::1", 255) == (frame[IPv6].src, frame[IPv6].dst, frame[IPv6].hlim)
    assert (router, 0, 1) == (advertisement.R, advertisement.S, advertisement.O)
    assert "2001:db8::10" == advertisement.tgt
    assert MAC_TEXT == advertisement[ICMPv6NDOptDstLLAddr].lladdr
    assert len(data) == 14 + 40 + frame[IPv6].plen


def test_checksums_are_right_for_any_address():
    dice = random.Random(7)
    for _ in range(200):
        address = ip_address(dice.randbytes(16))
        (data,) = announcements(dice.randbytes(6), address)
        sent = IPv6(data[14:])
        given = sent[ICMPv6ND_NA].cksum
        del sent[ICMPv6ND_NA].cksum

        assert given == IPv6(bytes(sent))[ICMPv6ND_NA].cksum


def times(schedule, until):
    """Return when each address is announced up to then."""
    found = []
    while (due := schedule.next()) is not None and due <= until:
        found += [(due, one) for one in schedule.take(due)]
    return found


def test_a_new_address_is_announced_several_times_and_an_old_one_not_again():
    schedule = Schedule((0, 1, 3))
    schedule.set([ONE], 10)
    first = times(schedule, 12)
    schedule.set([ONE, TWO], 12)

    assert [(10, ONE), (11, ONE)] == first
    assert [(12, TWO), (13, ONE), (13, TWO), (15, TWO)] == times(schedule, 1000)
    assert schedule.next() is None


def test_an_address_that_returns_is_new():
    schedule = Schedule((0, 1))
    for at in (10, 20):
        schedule.set([ONE], at)
        assert [(at, ONE), (at + 1, ONE)] == times(schedule, at + 5)
        schedule.set([], at + 5)

    assert schedule.next() is None
    assert frozenset() == schedule.held


def test_what_is_late_is_announced_once():
    schedule = Schedule((0, 1, 3), refresh_s=10)
    schedule.set([ONE], 0)

    assert [ONE] == schedule.take(47)
    assert [] == schedule.take(47)
    assert 53 == schedule.next()


def test_a_carrier_that_returns_begins_anew_with_its_interface():
    schedule = Schedule((0, 1))
    schedule.set([ONE, TWO], 0)
    times(schedule, 50)
    schedule.again("priv0", 50)
    some = times(schedule, 90)
    schedule.again(None, 90)

    assert [(50, TWO), (51, TWO)] == some
    assert {(90, ONE), (91, ONE), (90, TWO), (91, TWO)} == set(times(schedule, 200))


# The component's reading of links


def link(*, up, removed=False, name="pub0"):
    return LinkChanged(ifindex=2, name=name, mac=MAC_TEXT, mtu=1500, up=up, removed=removed)


@pytest.mark.parametrize(
    ("events", "begins_anew"),
    [
        ([link(up=True)], False),
        ([link(up=False)], False),
        ([link(up=False), link(up=True)], True),
        ([link(up=False), link(up=False), link(up=True), link(up=True)], True),
        ([link(up=True, removed=True), link(up=True)], True),
        ([link(up=False), link(up=True, name="other")], False),
    ],
)
async def test_only_a_carrier_that_returned_is_news(events, begins_anew, autojump_clock):
    announcer = NeighbourAnnouncer((0,))
    announcer.announce([ONE])
    announcer._schedule.take(1)

    for event in events:
        announcer._link_changed(event)

    assert begins_anew == (announcer._schedule.next() is not None)
