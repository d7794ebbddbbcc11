# SPDX-License-Identifier: Apache-2.0
"""Addresses of a group on real interfaces: lent, moved, announced, gone with their holder."""

import contextlib
import os
import signal
import subprocess
import sys
from ipaddress import ip_address

import pytest
import trio

from galelb.announcer import Held, HeldKind
from galelb.group.holder import LIFETIME_S, AddressHolder
from galelb.group.neighbours import NeighbourAnnouncer
from galelb.netlink import AddressChanged, LentState, open_netlink

pytestmark = pytest.mark.netns

LIMIT_S = 30
VIP4, VIP6 = "10.77.0.100", "fd77::100"
VIPS = (VIP4, VIP6)
HOLDING = """
import sys, trio
from ipaddress import ip_address
from galelb.announcer import Held, HeldKind
from galelb.group.holder import AddressHolder

holder = AddressHolder(lambda held: print(len(held), flush=True))
held = [Held(address=ip_address(a), interface="lb0", kind=HeldKind.VIP) for a in sys.argv[1:]]
holder.hold(held)
trio.run(holder.run)
"""


def held(address, interface="lb0"):
    return Held(address=ip_address(address), interface=interface, kind=HeldKind.VIP)


def lend(namespace, *wanted, take=False):
    """Lend (interface, address) pairs once; returns the states. With `take` take them back."""
    places = [(name, ip_address(address)) for name, address in wanted]

    async def main():
        with trio.fail_after(LIMIT_S):
            async with open_netlink() as netlink:
                if take:
                    await netlink.take_addresses_back(places, LIFETIME_S)
                    return []
                lent = await netlink.lend_addresses(places, LIFETIME_S)
                return [lent[place].state for place in places]

    return namespace.trio(main)


def shown(namespace, address, device="lb0"):
    return namespace.ip("addr", "show", "dev", device, "to", address)


@pytest.mark.parametrize("device", ["lb0", "lo"])
@pytest.mark.parametrize("address", VIPS)
def test_an_address_is_lent_renewed_and_taken_back(pair, address, device):
    lb, _ = pair

    states = [lend(lb, (device, address)) for _ in range(2)]
    text = shown(lb, address, device)
    routes = lb.ip("-6", "route", "show", "table", "main")
    lend(lb, (device, address), take=True)
    lend(lb, (device, address), take=True)

    assert [[LentState.NEW], [LentState.RENEWED]] == states
    assert "scope global" in text
    assert f"{address}/{ip_address(address).max_prefixlen}" in text
    assert any(f"valid_lft {left}sec preferred_lft 0sec" in text for left in (2, 3))
    assert "tentative" not in text
    assert VIP6 not in routes
    assert "" == shown(lb, address, device)


@pytest.mark.parametrize("address", VIPS)
def test_lent_addresses_are_none_of_the_machines_own(pair, address):
    """Who starts anew finds those of its last run, and would take them for its own."""
    lb, _ = pair
    lend(lb, ("lb0", address))
    family = ip_address(address).version

    async def main():
        async with open_netlink() as netlink:
            return (await netlink.interfaces())["lb0"].addresses, await netlink.lasting_addresses()

    seen, lasting = lb.trio(main)
    own = {4: "10.77.0.1", 6: "fd77::1"}[family]
    assert [own] == [str(one) for one in seen if one.version == family]
    assert ip_address(own) in lasting
    assert ip_address(address) not in lasting


@pytest.mark.parametrize(
    ("address", "theirs"),
    [
        (VIP4, ("10.77.0.100/32",)),
        (VIP4, ("10.77.0.100/24",)),
        (VIP4, ("10.77.0.100/32", "valid_lft", "600", "preferred_lft", "600")),
        (VIP6, ("fd77::100/128", "nodad")),
        (VIP6, ("fd77::100/64", "nodad", "valid_lft", "600", "preferred_lft", "600")),
    ],
)
def test_somebody_elses_address_is_neither_changed_nor_removed(pair, address, theirs):
    lb, _ = pair
    lb.ip("addr", "add", theirs[0], "dev", "lb0", *theirs[1:])
    before = shown(lb, address).split("valid_lft")[0]

    state = lend(lb, ("lb0", address))
    lend(lb, ("lb0", address), take=True)

    after = shown(lb, address)
    assert [LentState.FOREIGN] == state
    assert before == after.split("valid_lft")[0]
    assert "valid_lft forever" in after or "valid_lft 5" in after or "valid_lft 600" in after


def test_one_that_cannot_be_lent_is_told_and_the_others_are(pair):
    lb, _ = pair
    lb.ip("link", "add", "six0", "type", "veth", "peer", "name", "six1")
    lb.call("sysctl", "-qw", "net.ipv6.conf.six0.disable_ipv6=1")

    states = lend(lb, ("none0", VIP4), ("six0", VIP6), ("lb0", VIP4))

    assert [LentState.MISSING, LentState.MISSING, LentState.NEW] == states


def test_hundreds_of_addresses_are_lent_at_once(pair):
    lb, _ = pair
    wanted = [("lo", f"10.99.{n // 250}.{n % 250 + 1}") for n in range(500)]
    wanted += [("lo", f"fd99::{n + 1:x}") for n in range(500)]

    assert {LentState.NEW} == set(lend(lb, *wanted))
    lend(lb, *wanted, take=True)

    assert "10.99" not in lb.ip("addr", "show", "lo")
    assert "fd99" not in lb.ip("addr", "show", "lo")


def hold_while(namespace, wanted, during):
    """Run a holder for addresses in a namespace until `during()`, in a thread, has returned."""
    reports = []

    async def main():
        with trio.fail_after(LIMIT_S):
            there = trio.Event()

            def on_held(now):
                reports.append({str(one.address) for one in now})
                if len(now) == len(wanted):
                    there.set()

            holder = AddressHolder(on_held)
            holder.hold(wanted)
            async with trio.open_nursery() as nursery:
                await nursery.start(holder.run)
                await there.wait()
                await trio.to_thread.run_sync(during)
                nursery.cancel_scope.cancel()

    namespace.trio(main)
    return reports


def test_a_holder_that_stops_leaves_nothing_behind(pair):
    lb, _ = pair
    texts = []

    hold_while(lb, [held(a) for a in VIPS], lambda: texts.extend(shown(lb, a) for a in VIPS))

    assert all(texts)
    assert ["", ""] == [shown(lb, address) for address in VIPS]


def test_addresses_return_with_an_interface_that_is_made_anew(pair):
    lb, node = pair

    def make_anew():
        lb.ip("link", "del", "lb0")
        wait_until(lambda: [] != reports_without())
        node.ip("link", "add", "node0", "type", "veth", "peer", "name", "lb0", "netns", lb.name)
        lb.ip("link", "set", "lb0", "up")
        wait_until(lambda: shown(lb, VIP4) and shown(lb, VIP6))

    def reports_without():
        return [] if "lb0" in lb.ip("-br", "link", "show") else ["gone"]

    reports = hold_while(lb, [held(a) for a in VIPS], make_anew)

    assert set(VIPS) in reports
    assert "lb0" in lb.ip("-br", "link", "show")


def wait_until(condition):
    """Ask again until it is so; the test's own limit ends it."""

    async def main():
        with trio.fail_after(LIMIT_S):
            while not condition():
                await trio.sleep(0.02)

    trio.run(main)


@contextlib.contextmanager
def holding_process(namespace, *addresses):
    """Run a holder in a process of its own; yields it once all addresses are there."""
    command = ("ip", "netns", "exec", namespace.name, sys.executable, "-c", HOLDING, *addresses)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        while process.stdout.readline().strip() != str(len(addresses)):
            assert process.poll() is None
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_addresses_vanish_after_their_holder_was_killed(pair):
    lb, _ = pair
    gone = set()

    async def main():
        with trio.fail_after(LIMIT_S):
            async with open_netlink() as netlink:
                events = netlink.events()
                os.kill(process.pid, signal.SIGKILL)
                async for event in events:
                    if isinstance(event, AddressChanged) and event.removed:
                        gone.add(str(event.address))
                    if gone >= set(VIPS):
                        return

    with holding_process(lb, *VIPS) as process:
        before = [shown(lb, address) for address in VIPS]
        lb.trio(main)

    assert all(before)
    assert ["", ""] == [shown(lb, address) for address in VIPS]


# Neighbours


@pytest.fixture
def network(wires):
    """Return (client, one, two): a client whose bridge joins two balancers with pub0 each."""
    client = wires.namespace("client")
    client.ip("link", "add", "br0", "type", "bridge")
    client.ip("link", "set", "br0", "up")
    client.ip("addr", "add", "10.77.0.1/24", "dev", "br0")
    client.ip("addr", "add", "fd77::1/64", "dev", "br0", "nodad")
    balancers = []
    for number, role in ((2, "one"), (3, "two")):
        balancer = wires.namespace(role)
        wires.join(client, f"port{number}", balancer, "pub0")
        client.ip("link", "set", f"port{number}", "master", "br0")
        balancer.ip("addr", "add", f"10.77.0.{number}/24", "dev", "pub0")
        balancer.ip("addr", "add", f"fd77::{number}/64", "dev", "pub0", "nodad")
        balancers.append(balancer)
    return client, *balancers


def known(client, address):
    """Return the MAC address that the client's cache has for an address."""
    words = client.ip("neigh", "show", address).split()
    return words[words.index("lladdr") + 1] if "lladdr" in words else ""


def announced_while(namespace, addresses, during, announcer=None):
    """Announce addresses of pub0 until `during()`, in a thread, has returned."""
    made = announcer or NeighbourAnnouncer()

    async def main():
        with trio.fail_after(LIMIT_S):
            async with trio.open_nursery() as nursery:
                await nursery.start(made.run)
                made.announce([held(address, "pub0") for address in addresses])
                await trio.to_thread.run_sync(during)
                nursery.cancel_scope.cancel()

    namespace.trio(main)


def use(client, *addresses):
    """Have a client resolve addresses, as if it sent to them."""

    async def main():
        async with open_netlink() as netlink:
            for address in addresses:
                await netlink.probe(client.ifindex("br0"), ip_address(address), keep=False)

    client.trio(main)
    wait_until(lambda: all(known(client, address) for address in addresses))


def give(namespace, *addresses, verb="add"):
    for address in addresses:
        prefix = ip_address(address).max_prefixlen
        namespace.ip(
            "addr", verb, f"{address}/{prefix}", "dev", "pub0", *(("nodad",) * (prefix > 32))
        )


def test_a_neighbours_cache_follows_an_address_to_another_host(network):
    client, one, two = network
    give(one, *VIPS)
    use(client, *VIPS)
    before = {known(client, address) for address in VIPS}
    give(one, *VIPS, verb="del")
    give(two, *VIPS)

    announced_while(
        two,
        VIPS,
        lambda: wait_until(lambda: {two.mac("pub0")} == {known(client, a) for a in VIPS}),
    )

    assert {one.mac("pub0")} == before


def test_announcements_make_no_entries_where_nobody_asked(network):
    client, one, _ = network

    announced_while(one, [VIP4, "10.77.0.101"], lambda: use(client, "10.77.0.2"))

    assert "" == client.ip("neigh", "show", "10.77.0.101")


def test_addresses_are_announced_again_when_the_carrier_returns(network):
    client, one, two = network
    give(one, VIP4)
    use(client, VIP4)

    announcer = NeighbourAnnouncer((0.0, 0.3))

    def mislead_and_pull_the_plug():
        wait_until(lambda: announcer._schedule.next() is None)
        client.ip("neigh", "replace", VIP4, "lladdr", two.mac("pub0"), "dev", "br0", "nud", "stale")
        client.ip("link", "set", "port2", "down")
        client.ip("link", "set", "port2", "up")
        wait_until(lambda: known(client, VIP4) == one.mac("pub0"))

    announced_while(one, [VIP4], mislead_and_pull_the_plug, announcer)


def test_who_cannot_be_told_is_noted_until_it_can(network):
    _, one, _ = network
    seen = []

    async def main():
        with trio.fail_after(LIMIT_S):
            made = NeighbourAnnouncer((0.0,), refresh_s=0.05)
            async with trio.open_nursery() as nursery:
                await nursery.start(made.run)
                made.announce([held(VIP4, "none0"), held(VIP4, "lo"), held(VIP4, "pub0")])
                while not made.notes():
                    await trio.sleep(0.01)
                seen.extend(made.notes())
                one_ip = ("link", "add", "none0", "type", "veth", "peer", "name", "none1")
                await trio.to_thread.run_sync(lambda: one.ip(*one_ip))
                await trio.to_thread.run_sync(lambda: one.ip("link", "set", "none1", "up"))
                await trio.to_thread.run_sync(lambda: one.ip("link", "set", "none0", "up"))
                while made.notes():
                    await trio.sleep(0.01)
                nursery.cancel_scope.cancel()

    one.trio(main)

    assert [f"Neighbours on none0 are not told of {VIP4}: No such device"] == seen


@pytest.mark.parametrize("forwarding", ["0", "1"])
def test_advertisements_say_router_where_the_kernel_does(network, forwarding):
    client, one, _ = network
    one.call("sysctl", "-qw", f"net.ipv6.conf.pub0.forwarding={forwarding}")
    give(one, VIP6)
    client.ip("neigh", "add", VIP6, "lladdr", "02:00:00:00:00:99", "dev", "br0", "nud", "stale")

    announced_while(one, [VIP6], lambda: wait_until(lambda: known(client, VIP6) == one.mac("pub0")))

    assert ("router" in client.ip("neigh", "show", VIP6).split()) == (forwarding == "1")
