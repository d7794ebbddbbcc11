# SPDX-License-Identifier: Apache-2.0
"""Connections to a VIP on one very node, from a machine whose kernel has the VIP itself."""

import contextlib
import functools
import socket
import subprocess
import sys
from ipaddress import ip_address

import pytest
import trio
from galelb_plugins.health_probe.exchange import Exchange

from galelb.model import NextHop
from galelb.sources import VipWay

pytestmark = pytest.mark.netns

VIPS = {4: "192.0.2.10", 6: "2001:db8::10"}
OURS = {4: "10.77.0.1", 6: "fd77::1"}
PORT = 8080
# Echoes what it is sent, in capitals; then says goodbye.
SERVER = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
listener = socket.create_server((sys.argv[1], 8080), family=family)
print("ready", flush=True)
while True:
    connection, _ = listener.accept()
    try:
        while data := connection.recv(65536):
            connection.sendall(data.upper())
            if data.endswith(b"."):
                break
    except OSError:
        pass
    connection.close()
"""


class Site:
    """A balancer that has the VIP, as nodes have it; and one node."""

    def __init__(self, pair, version):
        self.lb, self.node = pair
        self.version, self.vip = version, VIPS[version]
        self.length = 32 if version == 4 else 128
        self.lb.ip("addr", "add", f"{self.vip}/{self.length}", "dev", "lo")
        self.give_vip()
        for setting in ("arp_ignore=1", "arp_announce=2"):  # as on every node that has VIPs
            self.node.call("sysctl", "-qw", f"net.ipv4.conf.all.{setting}")
        self.way = VipWay(
            source=ip_address(OURS[version]),
            hop=NextHop(
                ifindex=self.lb.ifindex("lb0"),
                dst_mac=self.node.mac("node0"),
                src_mac=self.lb.mac("lb0"),
                mtu=1500,
            ),
            wrap=lambda packet: packet,
        )

    def give_vip(self):
        self.node.ip("addr", "add", f"{self.vip}/{self.length}", "dev", "lo")

    def take_vip(self):
        self.node.ip("addr", "del", f"{self.vip}/{self.length}", "dev", "lo")

    @contextlib.contextmanager
    def serve(self, namespace, address="0.0.0.0"):
        """Run the server in a namespace."""
        address = "::" if self.version == 6 else address
        command = [sys.executable, "-c", SERVER, address]
        inside = ["nsenter", f"--net=/run/netns/{namespace.name}", *command]
        with subprocess.Popen(inside, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout.readline() == "ready\n"
            try:
                yield
            finally:
                server.kill()

    def visit(self, talk, patience=10):
        """Connect from the balancer and return what `talk(stream)` returns, or the error."""

        async def main():
            exchange = Exchange(self.way.source, 8)
            async with trio.open_nursery() as nursery:
                await nursery.start(exchange.run)
                outcome = await self._try(exchange, talk, patience)
                nursery.cancel_scope.cancel()
            return outcome

        return self.lb.trio(main)

    async def _try(self, exchange, talk, patience):
        try:
            with trio.fail_after(patience):
                async with exchange.connect(self.way, ip_address(self.vip), PORT) as stream:
                    return await talk(stream)
        except (OSError, trio.TooSlowError) as error:
            return type(error)

    def connections(self):
        """Return the node's connections at the port, without those that only listen."""
        return self.node.call("ss", "-Htn", "exclude", "listening", "sport", "=", f":{PORT}")


@pytest.fixture(params=[4, 6])
def site(pair, request):
    return Site(pair, request.param)


async def nothing(stream):
    await trio.lowlevel.checkpoint()
    return "accepted"


async def talk(stream):
    """Send a text of several segments and return what comes back."""
    await stream.send_all(b"hello " * 1000 + b".")
    heard = b""
    while data := await stream.receive_some(1000):
        heard += data
    return heard


def test_a_node_with_the_vip_accepts(site):
    with site.serve(site.node):
        assert "accepted" == site.visit(nothing)


def test_data_goes_both_ways(site):
    with site.serve(site.node):
        assert b"HELLO " * 1000 + b"." == site.visit(talk)


def test_nothing_is_left_on_the_node(site):
    with site.serve(site.node):
        site.visit(nothing)
        site.visit(talk)

        assert "" == site.connections()


def test_a_node_without_a_server_refuses(site):
    assert ConnectionRefusedError is site.visit(nothing)


def test_a_node_without_the_vip_is_silent(site):
    with site.serve(site.node):
        site.take_vip()

        assert trio.TooSlowError is site.visit(nothing, patience=1)


def test_a_node_that_forwards_to_the_vip_is_not_taken_for_one_that_has_it(site):
    """Its packets would come back here, where a balancer hands them to another node."""
    with site.serve(site.lb):
        site.take_vip()
        site.node.call("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        site.node.ip("route", "add", site.vip, "via", OURS[site.version])

        assert trio.TooSlowError is site.visit(nothing, patience=1)


def test_connections_do_not_take_each_others_answers(site):
    async def main():
        exchange = Exchange(site.way.source, 8)
        heard = []

        async def one(text):
            async with exchange.connect(site.way, ip_address(site.vip), PORT) as stream:
                await stream.send_all(text)
                heard.append((text, await stream.receive_some(100)))

        async with trio.open_nursery() as nursery:
            await nursery.start(exchange.run)
            with trio.fail_after(10):
                async with trio.open_nursery() as inner:
                    for number in range(8):
                        inner.start_soon(one, b"n%d." % number)
            nursery.cancel_scope.cancel()
        return heard

    with site.serve(site.node):
        heard = site.lb.trio(main)

    assert 8 == len(heard)
    assert [] == [(said, back) for said, back in heard if said.upper() != back]


def test_ports_are_given_back(site):
    async def main():
        exchange = Exchange(site.way.source, 2)
        async with trio.open_nursery() as nursery:
            await nursery.start(exchange.run)
            for _ in range(5):
                async with exchange.connect(site.way, ip_address(site.vip), PORT):
                    pass
            nursery.cancel_scope.cancel()
        return exchange.ports

    def bind(port):
        family = socket.AF_INET6 if site.version == 6 else socket.AF_INET
        with socket.socket(family) as sock:
            sock.bind((OURS[site.version], port))
            return port

    with site.serve(site.node):
        ports = site.lb.trio(main)

    assert list(ports) == [site.lb.thread(functools.partial(bind, port)) for port in ports]
