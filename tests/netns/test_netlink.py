# SPDX-License-Identifier: Apache-2.0
"""The netlink facade against a real kernel."""

import ctypes
import os
import struct
from ipaddress import ip_address

import pytest
import trio

from galelb.errors import AttachError, NetlinkError
from galelb.netlink import (
    AddressChanged,
    LinkChanged,
    NeighbourChanged,
    NeighbourState,
    Overflow,
    RouteChanged,
    open_netlink,
)

pytestmark = pytest.mark.netns

NODE4, NODE6 = ip_address("10.77.0.2"), ip_address("fd77::2")
LIMIT_S = 20


def ask(namespace, method, *args, **options):
    """Call one method of a Netlink inside a namespace."""

    async def main():
        with trio.fail_after(LIMIT_S):
            async with open_netlink() as nl:
                return await getattr(nl, method)(*args, **options)

    return namespace.trio(main)


def collect(namespace, change, wanted):
    """Return the first event that `wanted(event)` accepts after `change()` was called."""

    async def main():
        with trio.fail_after(LIMIT_S):
            async with open_netlink() as nl:
                events = nl.events()
                await trio.to_thread.run_sync(change)
                async for event in events:
                    if wanted(event):
                        return event
        raise AssertionError

    return namespace.trio(main)


async def resolved(nl, ifindex, address):
    with trio.fail_after(LIMIT_S):
        while (entry := await nl.neighbour(ifindex, address)).mac is None:
            await trio.sleep(0.01)
    return entry


def test_interfaces_have_their_addresses_and_no_link_local_ones(pair):
    lb, _ = pair

    found = ask(lb, "interfaces")

    assert {"lo", "lb0"} == set(found)
    assert lb.mac("lb0") == found["lb0"].mac
    assert lb.ifindex("lb0") == found["lb0"].ifindex
    assert 1500 == found["lb0"].mtu
    assert {"10.77.0.1", "fd77::1"} == {str(a) for a in found["lb0"].addresses}


def test_an_address_with_two_prefixes_is_one_address(pair):
    lb, _ = pair
    lb.ip("addr", "add", "10.77.0.1/16", "dev", "lb0")

    found = ask(lb, "interface", "lb0")

    assert ["10.77.0.1"] == [str(a) for a in found.addresses if a.version == 4]


def test_a_missing_interface_is_an_error_that_names_those_that_exist(pair):
    with pytest.raises(NetlinkError, match="eth9 does not exist; this machine has: lb0, lo"):
        ask(pair[0], "interface", "eth9")


@pytest.mark.parametrize(
    ("target", "gateway", "prefsrc"),
    [
        ("10.77.0.2", None, "10.77.0.1"),
        ("fd77::2", None, "fd77::1"),
        ("10.78.0.9", "10.77.0.2", "10.77.0.1"),
        ("fd78::9", "fd77::2", "fd77::1"),
        ("10.79.0.9", "fd77::2", "10.77.0.1"),
    ],
)
def test_routes_follow_the_routing_table(pair, target, gateway, prefsrc):
    lb, _ = pair
    lb.ip("route", "add", "10.78.0.0/16", "via", "10.77.0.2")
    lb.ip("-6", "route", "add", "fd78::/16", "via", "fd77::2")
    lb.ip("route", "add", "10.79.0.0/16", "via", "inet6", "fd77::2", "dev", "lb0")

    route = ask(lb, "route_to", ip_address(target))

    assert lb.ifindex("lb0") == route.ifindex
    assert (gateway and ip_address(gateway)) == route.gateway
    assert ip_address(prefsrc) == route.prefsrc
    assert route.mtu is None


def test_a_route_may_set_the_mtu(pair):
    pair[0].ip("route", "add", "10.78.0.0/16", "via", "10.77.0.2", "mtu", "1400")

    assert 1400 == ask(pair[0], "route_to", ip_address("10.78.0.9")).mtu


def test_policy_routing_is_honoured(pair):
    lb, _ = pair
    lb.ip("route", "add", "10.78.0.0/16", "via", "10.77.0.9", "table", "77")
    lb.ip("rule", "add", "to", "10.78.0.0/16", "table", "77")

    assert ip_address("10.77.0.9") == ask(lb, "route_to", ip_address("10.78.1.1")).gateway


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("198.51.100.1", "unreachable; add a route"),
        ("10.77.0.1", "this machine itself"),
        ("10.80.0.1", "blackhole"),
        ("10.81.0.1", "prohibit"),
        ("10.82.0.1", "add a route"),
        ("10.77.0.255", "broadcast"),
        ("ff02::1", "multicast"),
    ],
)
def test_an_address_without_a_way_is_an_error_that_says_why(pair, target, words):
    for number, kind in enumerate(("blackhole", "prohibit", "unreachable")):
        pair[0].ip("route", "add", kind, f"10.8{number}.0.0/16")

    with pytest.raises(NetlinkError, match=words):
        ask(pair[0], "route_to", ip_address(target))


@pytest.mark.parametrize("address", [NODE4, NODE6])
def test_a_probe_makes_the_kernel_resolve_a_neighbour_and_keep_it(pair, address):
    lb, node = pair
    ifindex = lb.ifindex("lb0")

    async def main():
        async with open_netlink() as nl:
            before = await nl.neighbour(ifindex, address)
            await nl.probe(ifindex, address)
            return before, await resolved(nl, ifindex, address), await nl.neighbours()

    before, after, table = lb.trio(main)

    assert (None, NeighbourState.NONE) == (before.mac, before.state)
    assert (node.mac("node0"), NeighbourState.REACHABLE) == (after.mac, after.state)
    assert address in {entry.address for entry in table}
    assert "managed" in lb.ip("neigh", "show", str(address))


def test_a_released_neighbour_is_an_ordinary_one_again(pair):
    lb, _ = pair
    ifindex = lb.ifindex("lb0")

    async def main():
        async with open_netlink() as nl:
            await nl.probe(ifindex, NODE4)
            await resolved(nl, ifindex, NODE4)
            await nl.release(ifindex, NODE4)
            await nl.release(ifindex, ip_address("10.77.0.200"))

    lb.trio(main)

    assert "managed" not in lb.ip("neigh", "show", "10.77.0.2")
    assert "" == lb.ip("neigh", "show", "10.77.0.200")


def test_a_permanent_neighbour_is_never_touched(pair):
    lb, _ = pair
    entry = ("10.77.0.2", "dev", "lb0", "lladdr", "02:00:00:00:00:09", "nud", "permanent")
    lb.ip("neigh", "add", *entry)

    ask(lb, "probe", lb.ifindex("lb0"), NODE4)
    ask(lb, "release", lb.ifindex("lb0"), NODE4)

    assert "PERMANENT" in lb.ip("neigh", "show", "10.77.0.2")
    assert "02:00:00:00:00:09" == ask(lb, "neighbour", lb.ifindex("lb0"), NODE4).mac


def test_probing_on_an_interface_that_is_gone_is_an_error(pair):
    with pytest.raises(NetlinkError, match="No such device"):
        ask(pair[0], "probe", 9999, NODE4)


@pytest.mark.parametrize(("address", "prefix"), [("10.77.0.100", 32), ("fd77::100", 128)])
def test_an_address_can_be_added_renewed_and_removed(pair, address, prefix):
    lb, _ = pair
    ifindex = lb.ifindex("lb0")

    ask(lb, "add_address", ifindex, ip_address(address), prefix, 30)
    ask(lb, "add_address", ifindex, ip_address(address), prefix, 300)
    shown = lb.ip("addr", "show", "to", address)
    ask(lb, "add_address", ifindex, ip_address(address), prefix)
    forever = lb.ip("addr", "show", "to", address)
    for _ in range(2):
        ask(lb, "del_address", ifindex, ip_address(address), prefix)

    assert any(f"valid_lft {left}sec" in shown for left in range(280, 301))
    assert "tentative" not in shown
    assert "valid_lft forever" in forever
    assert "" == lb.ip("addr", "show", "to", address)


def test_an_address_disappears_when_it_is_not_renewed(pair):
    lb, _ = pair
    ifindex = lb.ifindex("lb0")
    vip = ip_address("10.77.0.100")

    async def main():
        with trio.fail_after(LIMIT_S):
            async with open_netlink() as nl:
                events = nl.events()
                await nl.add_address(ifindex, vip, 32, 1)
                return [await _next_of(events, AddressChanged, vip) for _ in range(2)]

    assert [False, True] == [event.removed for event in lb.trio(main)]


async def _next_of(events, kind, address):
    async for event in events:
        if isinstance(event, kind) and event.address == address:
            return event
    raise AssertionError


def test_events_tell_of_neighbours(pair):
    lb, node = pair

    event = collect(
        lb,
        lambda: ask(lb, "probe", lb.ifindex("lb0"), NODE4),
        lambda e: isinstance(e, NeighbourChanged) and e.state is NeighbourState.REACHABLE,
    )

    assert (lb.ifindex("lb0"), NODE4, False) == (event.ifindex, event.address, event.removed)
    assert node.mac("node0") == event.mac


def test_events_tell_of_a_neighbour_that_does_not_answer(pair):
    lb, _ = pair
    lb.call("sysctl", "-qw", "net.ipv4.neigh.lb0.retrans_time_ms=10")
    silent = ip_address("10.77.0.99")

    async def main():
        with trio.fail_after(LIMIT_S):
            async with open_netlink() as nl:
                events = nl.events()
                await nl.probe(lb_index, silent)
                async for event in events:
                    if getattr(event, "state", None) is NeighbourState.FAILED:
                        return event
        raise AssertionError

    lb_index = lb.ifindex("lb0")
    event = lb.trio(main)

    assert (silent, None) == (event.address, event.mac)


@pytest.mark.parametrize(
    ("destination", "command"),
    [
        ("10.78.0.0/16", ["route", "add", "10.78.0.0/16", "via", "10.77.0.2"]),
        ("fd78::/64", ["-6", "route", "add", "fd78::/64", "via", "fd77::2"]),
        ("10.78.1.0/24", ["route", "add", "10.78.1.0/24", "dev", "lb0", "table", "1000"]),
    ],
)
def test_events_tell_of_routes(pair, destination, command):
    lb, _ = pair

    event = collect(lb, lambda: lb.ip(*command), lambda e: isinstance(e, RouteChanged))

    assert destination == f"{event.destination}/{event.prefix}"
    assert (lb.ifindex("lb0"), False) == (event.ifindex, event.removed)
    assert (1000 if "1000" in command else 254) == event.table


def test_events_tell_of_a_default_route_that_went(pair):
    lb, _ = pair
    lb.ip("route", "add", "default", "via", "10.77.0.2")

    event = collect(
        lb, lambda: lb.ip("route", "del", "default"), lambda e: isinstance(e, RouteChanged)
    )

    assert (None, 0, True) == (event.destination, event.prefix, event.removed)


def test_events_tell_of_links(pair):
    lb, node = pair

    def carrier(event):
        return isinstance(event, LinkChanged) and event.name == "lb0" and not event.up

    down = collect(lb, lambda: node.ip("link", "set", "node0", "down"), carrier)
    mtu = collect(
        lb, lambda: lb.ip("link", "set", "lb0", "mtu", "9000"), lambda e: e.__class__ is LinkChanged
    )
    gone = collect(
        lb,
        lambda: lb.ip("link", "del", "lb0"),
        lambda e: isinstance(e, LinkChanged) and e.removed,
    )

    assert (False, 1500) == (down.up, down.mtu)
    assert (9000, lb.name) == (mtu.mtu, lb.name)
    assert "lb0" == gone.name


def test_events_that_were_lost_are_reported_as_an_overflow(pair):
    lb, _ = pair

    async def main():
        with trio.fail_after(LIMIT_S):
            async with open_netlink() as nl:
                events = nl.events()
                events._socket.setsockopt(1, 8, 1)  # SO_RCVBUF: the least that there is
                for prefix in range(64):
                    await nl.add_address(ifindex, ip_address(f"10.77.1.{prefix}"), 32)
                while not isinstance(await anext(events), Overflow):
                    pass
                await nl.add_address(ifindex, ip_address("10.77.2.1"), 32)
                return await _next_of(events, AddressChanged, ip_address("10.77.2.1"))

    ifindex = lb.ifindex("lb0")

    assert not lb.trio(main).removed


def test_closing_ends_streams_and_later_requests(pair):
    async def main():
        with trio.fail_after(LIMIT_S):
            async with open_netlink() as nl:
                events = nl.events()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_drain, events)
                    await trio.testing.wait_all_tasks_blocked()
                    nl.close_events()
            with pytest.raises(trio.ClosedResourceError):
                await nl.interfaces()
            return [event async for event in events]

    assert [] == pair[0].trio(main)


async def _drain(events):
    async for _ in events:
        pass


def test_a_cancelled_request_leaves_the_others_alone(pair):
    async def main():
        with trio.fail_after(LIMIT_S):
            async with open_netlink() as nl:
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await nl.interfaces()
                return scope.cancelled_caught, await nl.interfaces()

    cancelled, found = pair[0].trio(main)

    assert cancelled
    assert "lb0" in found


def test_hundreds_of_requests_at_once_are_all_answered(pair):
    async def main():
        found = []

        async def one(nl):
            found.append(await nl.route_to(NODE4))

        with trio.fail_after(LIMIT_S):
            async with open_netlink() as nl, trio.open_nursery() as nursery:
                for _ in range(300):
                    nursery.start_soon(one, nl)
        return found

    assert 300 == len(pair[0].trio(main))


# TC


def classifier(verdict=-1):
    """Load a classifier of two instructions; the caller closes it."""
    code = struct.pack("<BBhiBBhi", 0xB7, 0, 0, verdict, 0x95, 0, 0, 0)
    text, licence = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"GPL")
    request = struct.pack("=IIQQ", 3, 2, ctypes.addressof(text), ctypes.addressof(licence))
    attr = ctypes.create_string_buffer(request.ljust(128, b"\0"))
    fd = ctypes.CDLL(None, use_errno=True).syscall(321, 5, attr, 128)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "BPF_PROG_LOAD")
    return fd


@pytest.fixture
def programs():
    fds = [classifier(), classifier(0)]
    yield fds
    for fd in fds:
        os.close(fd)


def filters(lb, direction):
    return lb.call("tc", "filter", "show", "dev", "lb0", direction)


def qdiscs(lb):
    return lb.call("tc", "qdisc", "show", "dev", "lb0")


@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_a_program_is_attached_replaced_and_detached(pair, programs, direction):
    lb, _ = pair
    ifindex = lb.ifindex("lb0")

    async def main():
        async with open_netlink() as nl:
            made = [await nl.add_tc(ifindex, programs[0], direction, "gale_one")]
            made.append(await nl.add_tc(ifindex, programs[1], direction, "gale_two"))
            shown = filters(lb, direction)
            attached = [await nl.has_tc(ifindex, direction)]
            for _ in range(2):
                await nl.remove_tc(ifindex, direction)
            attached.append(await nl.has_tc(ifindex, direction))
            return made, shown, attached

    made, shown, attached = lb.trio(main)

    assert [True, False] == made
    assert [True, False] == attached
    assert 1 == shown.count("handle 0x1")
    assert "gale_two direct-action" in shown
    assert "clsact" not in qdiscs(lb)


def test_foreign_filters_and_qdiscs_stay(pair, programs):
    lb, _ = pair
    ifindex = lb.ifindex("lb0")
    lb.call("tc", "qdisc", "add", "dev", "lb0", "clsact")
    lb.thread(lambda: attach_foreign(ifindex, programs[1], priority=20))

    ask(lb, "add_tc", ifindex, programs[0], "ingress", "gale_in")
    ask(lb, "remove_tc", ifindex, "ingress", made_clsact=True)
    shown = filters(lb, "ingress")

    assert "somebody" in shown
    assert "gale_in" not in shown
    assert "clsact" in qdiscs(lb)


def test_a_foreign_filter_in_our_place_is_not_replaced(pair, programs):
    lb, _ = pair
    ifindex = lb.ifindex("lb0")
    lb.call("tc", "qdisc", "add", "dev", "lb0", "clsact")
    lb.thread(lambda: attach_foreign(ifindex, programs[1], priority=10))

    with pytest.raises(AttachError, match="'somebody' at priority 10 is not ours"):
        ask(lb, "add_tc", ifindex, programs[0], "ingress", "gale_in")
    ask(lb, "remove_tc", ifindex, "ingress")

    assert "somebody" in filters(lb, "ingress")


def test_clsact_of_an_earlier_run_goes_when_told_so(pair, programs):
    lb, _ = pair
    ifindex = lb.ifindex("lb0")

    made = [ask(lb, "add_tc", ifindex, programs[0], d, "gale") for d in ("ingress", "egress")]
    ask(lb, "remove_tc", ifindex, "ingress", made_clsact=True)
    between = qdiscs(lb)
    ask(lb, "remove_tc", ifindex, "egress", made_clsact=True)

    assert [True, False] == made
    assert "clsact" in between
    assert "clsact" not in qdiscs(lb)


def test_an_interface_that_is_gone_is_an_error_when_attaching_and_fine_when_detaching(
    pair, programs
):
    ask(pair[0], "remove_tc", 9999, "ingress", made_clsact=True)
    with pytest.raises(NetlinkError, match="does not exist any more"):
        ask(pair[0], "add_tc", 9999, programs[0], "ingress", "gale")


def attach_foreign(ifindex, fd, *, priority):
    from pyroute2 import IPRoute

    with IPRoute() as ipr:
        ipr.tc(
            "add-filter",
            "bpf",
            ifindex,
            handle=1,
            fd=fd,
            name="somebody",
            parent=0xFFFFFFF2,
            direct_action=True,
            prio=priority,
            protocol=3,
        )


# offloads


def test_offloads_are_read_switched_and_restored(pair):
    lb, _ = pair
    before = ask(lb, "offloads", "lb0")

    changed = ask(lb, "set_offloads", "lb0", {"tx": False, "gro": True})
    after = ask(lb, "offloads", "lb0")
    ask(lb, "set_offloads", "lb0", changed)

    assert {"gro", "lro", "rxvlan", "tx"} == set(before)
    assert (False, True) == (after["tx"], after["gro"])
    assert "tx-checksumming: on" in lb.call("ethtool", "-k", "lb0")
    assert before == ask(lb, "offloads", "lb0")


def test_flags_are_switched_one_by_one(pair):
    lb, _ = pair
    before = ask(lb, "offloads", "lb0")

    changed = ask(lb, "set_offloads", "lb0", {"rxvlan": not before["rxvlan"]})

    assert {"rxvlan": before["rxvlan"]} == changed
    assert {**before, "rxvlan": not before["rxvlan"]} == ask(lb, "offloads", "lb0")


def test_offloads_of_a_missing_interface_are_an_error(pair):
    with pytest.raises(NetlinkError, match="offloads of interface eth9"):
        ask(pair[0], "offloads", "eth9")
