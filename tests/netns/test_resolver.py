# SPDX-License-Identifier: Apache-2.0
"""The resolver against a real kernel: what changes on the wire reaches the next hops."""

import socket
import subprocess
from ipaddress import ip_address

import pytest
import trio

from galelb.netlink import open_netlink
from galelb.resolve.next_hops import NextHopTable
from galelb.resolve.resolver import NodeResolver

pytestmark = pytest.mark.netns

NODE4, NODE6, FAR = (ip_address(text) for text in ("10.77.0.2", "fd77::2", "10.78.0.9"))
LIMIT_S = 30


class Watcher:
    """A resolver that runs, and waits for what a test expects of it."""

    def __init__(self, nl):
        self.hops = NextHopTable(64)
        self.mac = {}
        self.hop = {}
        self._news = trio.Event()
        self.resolver = NodeResolver(
            nl, self.hops, on_change=self._changed, on_next_hops=lambda: self._news.set()
        )

    def _changed(self, address, hop, mac):
        self.mac[address] = mac
        self.hop[address] = hop
        self._news.set()

    async def until(self, condition):
        while not condition():
            self._news = trio.Event()
            await self._news.wait()

    async def until_mac(self, address, mac):
        await self.until(lambda: self.mac.get(address, "nothing yet") == mac)


def watching(namespace, scenario):
    """Run `scenario(watcher, call)` inside; `call` runs a blocking function beside."""

    async def main():
        with trio.fail_after(LIMIT_S):
            async with open_netlink() as nl, trio.open_nursery() as nursery:
                watcher = Watcher(nl)
                await nursery.start(watcher.resolver.run)
                result = await scenario(watcher, trio.to_thread.run_sync)
                nursery.cancel_scope.cancel()
        return result

    return namespace.trio(main)


@pytest.mark.parametrize("address", [NODE4, NODE6])
def test_a_node_is_resolved_without_any_traffic_of_ours(pair, address):
    lb, node = pair

    async def scenario(watcher, call):
        watcher.resolver.watch(address)
        await watcher.until_mac(address, node.mac("node0"))
        return watcher.hop[address]

    hop = watching(lb, scenario)

    assert (lb.ifindex("lb0"), lb.mac("lb0"), 1500) == (hop.ifindex, hop.src_mac, hop.mtu)


def test_a_node_whose_mac_changes_is_followed(pair):
    lb, node = pair
    new = "02:00:00:00:77:02"

    def change():
        # As a replaced machine does: down, another address, up, and a first word to us.
        node.ip("link", "set", "node0", "down")
        node.ip("link", "set", "node0", "address", new)
        node.ip("link", "set", "node0", "up")
        node.thread(lambda: _send_datagram("10.77.0.1"))

    async def scenario(watcher, call):
        watcher.resolver.watch(NODE4)
        await watcher.until_mac(NODE4, node.mac("node0"))
        await call(change)
        await watcher.until_mac(NODE4, new)

    watching(lb, scenario)


def test_a_gratuitous_arp_is_followed(pair):
    lb, node = pair
    new = "02:00:00:00:77:03"
    lb.call("sysctl", "-qw", "net.ipv4.neigh.lb0.locktime=0")

    def announce():
        mac = bytes.fromhex(new.replace(":", ""))
        ip = NODE4.packed
        frame = b"\xff" * 6 + mac + bytes.fromhex("08060001080006040002") + mac + ip
        frame += b"\xff" * 6 + ip
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind(("node0", 0))
            raw.send(frame)

    async def scenario(watcher, call):
        watcher.resolver.watch(NODE4)
        await watcher.until_mac(NODE4, node.mac("node0"))
        # As senders do, more than once: the kernel ignores one right after another update.
        while watcher.mac[NODE4] != new:
            await call(node.thread, announce)
            with trio.move_on_after(0.1):
                await watcher.until_mac(NODE4, new)

    watching(lb, scenario)


def test_a_node_that_vanishes_is_lost_and_found_again(pair):
    lb, node = pair
    # Be quick: by default the kernel believes an entry for half a minute, and asks for seconds.
    for key, value in (("base_reachable_time_ms", 100), ("delay_first_probe_time", 0)):
        lb.call("sysctl", "-qw", f"net.ipv4.neigh.lb0.{key}={value}")
    lb.call("sysctl", "-qw", "net.ipv4.neigh.lb0.retrans_time_ms=50")
    lb.call("sysctl", "-qw", "net.ipv4.neigh.lb0.interval_probe_time_ms=100")
    mac = node.mac("node0")

    async def scenario(watcher, call):
        watcher.resolver.watch(NODE4)
        await watcher.until_mac(NODE4, mac)
        await call(node.ip, "link", "set", "node0", "arp", "off")
        await call(node.ip, "addr", "del", "10.77.0.2/24", "dev", "node0")
        await watcher.until_mac(NODE4, None)
        problem = watcher.resolver.problem(NODE4)
        await call(node.ip, "link", "set", "node0", "arp", "on")
        await call(node.ip, "addr", "add", "10.77.0.2/24", "dev", "node0")
        await watcher.until_mac(NODE4, mac)
        return problem

    assert "10.77.0.2 does not answer on lb0" == watching(lb, scenario)


def test_a_node_behind_a_gateway_moves_with_its_route(pair, wires):
    lb, node = pair
    other = wires.namespace("gw2")
    wires.join(lb, "lb1", other, "gw0")
    lb.ip("addr", "add", "10.79.0.1/24", "dev", "lb1")
    other.ip("addr", "add", "10.79.0.2/24", "dev", "gw0")
    lb.ip("route", "add", "10.78.0.0/16", "via", "10.77.0.2", "mtu", "1400")

    async def scenario(watcher, call):
        watcher.resolver.watch(FAR)
        await watcher.until_mac(FAR, node.mac("node0"))
        first = watcher.hop[FAR]
        index = watcher.hops.client_hop(lb.ifindex("lb0"), node.mac("node0"), lb.mac("lb0"), 1500)
        await call(lb.ip, "route", "replace", "10.78.0.0/16", "via", "10.79.0.2")
        await watcher.until_mac(FAR, other.mac("gw0"))
        await watcher.until(lambda: watcher.hops.statistics()["clients_valid"] == 0)
        return first, watcher.hop[FAR], index

    first, second, index = watching(lb, scenario)

    assert (lb.ifindex("lb0"), 1400) == (first.ifindex, first.mtu)
    assert (lb.ifindex("lb1"), 1500) == (second.ifindex, second.mtu)
    assert index


def test_an_interface_that_is_made_again_is_followed(pair, wires):
    lb, node = pair

    def replace():
        lb.ip("link", "del", "lb0")
        wires.join(lb, "lb0", node, "node0")
        lb.ip("addr", "add", "10.77.0.1/24", "dev", "lb0")
        node.ip("addr", "add", "10.77.0.2/24", "dev", "node0")

    async def scenario(watcher, call):
        watcher.resolver.watch(NODE4)
        await watcher.until_mac(NODE4, node.mac("node0"))
        before = watcher.hop[NODE4]
        await call(replace)
        await watcher.until(lambda: watcher.hop[NODE4] not in (None, before))
        return watcher.hop[NODE4]

    hop = watching(lb, scenario)

    assert (lb.ifindex("lb0"), lb.mac("lb0")) == (hop.ifindex, hop.src_mac)
    assert node.mac("node0") == hop.dst_mac


def test_waking_for_a_client_resolves_its_gateway(pair):
    lb, node = pair
    lb.ip("route", "add", "default", "via", "10.77.0.2")

    async def scenario(watcher, call):
        watcher.resolver.wake(ip_address("198.51.100.7"))
        async with open_netlink() as nl:
            while (await nl.neighbour(lb.ifindex("lb0"), NODE4)).mac is None:
                await trio.sleep(0.01)

    watching(lb, scenario)

    assert node.mac("node0") in lb.ip("neigh", "show", "10.77.0.2")


def test_hundreds_of_nodes_are_resolved(pair):
    lb, node = pair
    addresses = [ip_address(f"10.77.0.{last}") for last in range(10, 210)]
    batch = "".join(f"addr add {address}/24 dev node0\n" for address in addresses)

    async def scenario(watcher, call):
        for address in addresses:
            watcher.resolver.watch(address)
        await watcher.until(lambda: all(watcher.mac.get(a) for a in addresses))

    node.thread(lambda: _ip_batch(batch))
    watching(lb, scenario)


def _send_datagram(address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"\0", (address, 9))


def _ip_batch(text):
    subprocess.run(["ip", "-batch", "-"], input=text, text=True, check=True)
