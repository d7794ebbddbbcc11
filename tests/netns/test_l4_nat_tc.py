# SPDX-License-Identifier: Apache-2.0
"""l4_nat in TC carries real TCP and UDP, with checksums left to the network card and without."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import attrs
import pytest
from galelb_plugins.l4_nat.options import L4NatOptions
from galelb_plugins.l4_nat.plugin import L4Nat

from galelb.datapath.host import host_view
from galelb.model import Interface, Protocol, Service
from galelb.testing.kernel import NsThread, Sandbox
from galelb.testing.runner import PacketRunner
from galelb.testing.world import TestNode, World

pytestmark = pytest.mark.netns

SIZE = 3_000_000
TIMEOUT_S = 20
QUERIES = 200
VIPS = {4: "198.51.100.1", 6: "2001:db8:1::1"}
CLIENT = {4: "192.0.2.2", 6: "2001:db8:2::2"}
NODE = {4: "10.0.0.11", 6: "fd00::11"}
LINKS = {
    "pub": ("cl0", ("192.0.2.1/24", "2001:db8:2::1/64"), ("192.0.2.2/24", "2001:db8:2::2/64")),
    "priv": ("nd0", ("10.0.0.1/24", "fd00::1/64"), ("10.0.0.11/24", "fd00::11/64")),
}
GATEWAYS = {"cl0": ("192.0.2.1", "2001:db8:2::1"), "nd0": ("10.0.0.1", "fd00::1")}


def service(name: str, version: int, protocol: Protocol, port: int) -> Service:
    return Service(
        name=name,
        vip=ip_address(VIPS[version]),
        port=port,
        protocol=protocol,
        target_port=port + 8000,
        forwarder="l4_nat",
    )


SERVICES = [
    service("tcp4", 4, Protocol.TCP, 80),
    service("tcp6", 6, Protocol.TCP, 80),
    service("udp4", 4, Protocol.UDP, 53),
    service("udp6", 6, Protocol.UDP, 53),
]


@attrs.define
class Net:
    """A client, a balancer and a node, each in a namespace, in a row."""

    sandbox: Sandbox
    client: NsThread
    node: NsThread

    def offload(self, state: str) -> None:
        """Turn transmit checksum offload of both ends on or off."""
        self.client.command("ethtool", "-K", "cl0", "tx", state)
        self.node.command("ethtool", "-K", "nd0", "tx", state)


def add_addresses(where: NsThread, device: str, addresses: tuple[str, ...]) -> None:
    for address in addresses:
        extra = ("nodad",) if ":" in address else ()
        where.command("ip", "address", "add", address, "dev", device, *extra)


def link_mac(where: NsThread, device: str) -> str:
    """A device's MAC; /sys may show another namespace's devices, `ip` never does."""
    words = where.command("ip", "-o", "link", "show", "dev", device).split()
    return words[words.index("link/ether") + 1]


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    with Sandbox() as sandbox:
        made = Net(sandbox, sandbox.namespace(), sandbox.namespace())
        ends = {"cl0": made.client, "nd0": made.node}
        for device, (peer, ours, theirs) in LINKS.items():
            sandbox.veth(device, peer, other=ends[peer])
            add_addresses(sandbox.net, device, ours)
            add_addresses(ends[peer], peer, theirs)
            for gateway in GATEWAYS[peer]:
                ends[peer].command("ip", "route", "add", "default", "via", gateway)
        for path in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"):
            sandbox.run(Path("/proc/sys", path).write_text, "1")
        for address in CLIENT.values():
            mac = link_mac(made.client, "cl0")
            words = ("ip", "neigh", "replace", address, "lladdr", mac, "dev", "pub")
            sandbox.command(*words, "nud", "permanent")
        yield made


def interface(sandbox: Sandbox, name: str) -> Interface:
    return Interface(
        name=name,
        ifindex=sandbox.run(socket.if_nametoindex, name),
        mac=link_mac(sandbox.net, name),
        mtu=1500,
        addresses=tuple(ip_address(text.split("/")[0]) for text in LINKS[name][1]),
    )


def world(net: Net) -> World:
    private, public = interface(net.sandbox, "priv"), interface(net.sandbox, "pub")
    mac = link_mac(net.node, "nd0")
    nodes = tuple(
        TestNode(index=n, address=ip_address(text), mac=mac)
        for n, text in enumerate(NODE.values(), 1)
    )
    host = net.sandbox.run(host_view, private, public, 77)
    return World(public=public, private=private, nodes=nodes, host=host)


PLACES = {
    "full_nat": [("pub", "ingress", "gale_tc_entry"), ("priv", "ingress", "gale_tc_entry")],
    "dnat": [("pub", "ingress", "gale_tc_entry"), ("priv", "ingress", "gale_tc_entry")],
    "dnat egress": [("pub", "ingress", "gale_tc_entry"), ("pub", "egress", "gale_tc_egress")],
}
"""Where programs are attached; in "dnat egress" the kernel forwards the answers itself."""


@pytest.fixture(scope="module", params=list(PLACES))
def balancer(request, net: Net) -> Iterator[Net]:
    mode = request.param.split()[0]
    forwarder = L4Nat(L4NatOptions(mode=mode, max_flows=4096, max_slices=8))
    with PacketRunner(net.sandbox, world(net), SERVICES, forwarder, context="tc") as runner:
        for device in LINKS:
            net.sandbox.command("tc", "qdisc", "add", "dev", device, "clsact")
        for device, where, program in PLACES[request.param]:
            pin = str(runner.compiled.programs[program].pin)
            net.sandbox.command(
                "tc", "filter", "add", "dev", device, where, "prio", "1",
                "bpf", "da", "object-pinned", pin,
            )  # fmt: skip
        yield net
        for device in LINKS:
            net.sandbox.command("tc", "qdisc", "del", "dev", device, "clsact")


def open_socket(family: int, kind: int) -> socket.socket:
    made = socket.socket({4: socket.AF_INET, 6: socket.AF_INET6}[family], kind)
    made.settimeout(TIMEOUT_S)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return made


def listening(family: int, kind: int, port: int) -> socket.socket:
    made = open_socket(family, kind)
    made.bind((NODE[family], port))
    if kind == socket.SOCK_STREAM:
        made.listen(8)
    return made


@contextlib.contextmanager
def serving(net: Net, family: int, kind: int, port: int, work) -> Iterator[None]:
    """Run a server for one connection (TCP) or until the socket closes (UDP) on the node."""
    server = net.node.run(listening, family, kind, port)
    thread = threading.Thread(target=work, args=(server,))
    thread.start()
    try:
        yield
    finally:
        thread.join()
        server.close()


def receive_exactly(connection: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(65536)
        if not part:
            break
        parts += part
    return bytes(parts)


def echo_all(server: socket.socket) -> None:
    connection, _ = server.accept()
    connection.settimeout(TIMEOUT_S)
    with connection:
        data = receive_exactly(connection, SIZE)
        connection.sendall(data)


def echo_queries(server: socket.socket) -> None:
    for _ in range(QUERIES):
        data, sender = server.recvfrom(2048)
        server.sendto(data[::-1], sender)


@pytest.mark.parametrize("offload", ["on", "off"])
@pytest.mark.parametrize("family", [4, 6])
def test_a_large_transfer_arrives_whole_both_ways(balancer: Net, family: int, offload: str) -> None:
    balancer.offload(offload)
    sent = hashlib.shake_128(b"seed").digest(SIZE)

    with (
        serving(balancer, family, socket.SOCK_STREAM, 8080, echo_all),
        balancer.client.run(open_socket, family, socket.SOCK_STREAM) as client,
    ):
        client.connect((VIPS[family], 80))
        sender = threading.Thread(target=client.sendall, args=(sent,))
        sender.start()
        received = receive_exactly(client, SIZE)
        sender.join()

    assert len(sent) == len(received)
    assert sent == received


@pytest.mark.parametrize("offload", ["on", "off"])
@pytest.mark.parametrize("family", [4, 6])
def test_queries_are_answered(balancer: Net, family: int, offload: str) -> None:
    balancer.offload(offload)
    answers = []

    with (
        serving(balancer, family, socket.SOCK_DGRAM, 8053, echo_queries),
        balancer.client.run(open_socket, family, socket.SOCK_DGRAM) as client,
    ):
        client.connect((VIPS[family], 53))
        for number in range(QUERIES):
            client.send(f"query {number}".encode())
            answers.append(client.recv(2048))

    assert [f"query {n}".encode()[::-1] for n in range(QUERIES)] == answers
