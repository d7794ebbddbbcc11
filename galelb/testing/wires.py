# SPDX-License-Identifier: Apache-2.0
"""Real traffic through a runner's TC program: a client's kernel sends, the node's end listens.

Only so do packets come whose checksum is partial, left to the network card, or that are several
in one (GSO): a test run cannot make any.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from galelb.model import Protocol, Service
from galelb.testing.kernel import NsThread
from galelb.testing.packets import ETHERNET
from galelb.testing.runner import PacketRunner
from galelb.testing.world import GATEWAYS, PRIVATE, PUBLIC, PUBLIC_MAC

__all__ = ["Wires"]

TIMEOUT_S = 30
EVERY_PROTOCOL = 3
PROMISCUOUS = struct.pack("IHH8s", 0, 1, 0, b"")  # struct packet_mreq: index, type, length
SOL_PACKET, ADD_MEMBERSHIP = 263, 1
UDP_SEGMENT = 103
LARGEST = 1 << 16
OWN = {4: "192.0.2.1", 6: "2001:db8:2::1"}
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


class Wires:
    """The far ends of a runner's interfaces in namespaces: a client on one, a node on the other.

    The node's end receives checksums as a wire carries them: whole. Made once per runner.
    """

    def __init__(self, runner: PacketRunner) -> None:
        self._runner = runner
        self._client = self._move(f"{PUBLIC}x")
        self._node = self._move(f"{PRIVATE}x")
        for version, address in GATEWAYS.items():
            self._join(version, address)
        runner.sandbox.command("ethtool", "-K", PRIVATE, "tx", "off")

    def _move(self, device: str) -> NsThread:
        sandbox = self._runner.sandbox
        namespace = sandbox.namespace()
        sandbox.command("ip", "link", "set", device, "netns", namespace.path)
        namespace.command("ip", "link", "set", device, "up")
        return namespace

    def _join(self, version: int, address: str) -> None:
        device, length = f"{PUBLIC}x", {4: 24, 6: 64}[version]
        extra = ("nodad",) if version == 6 else ()
        run = self._client.command
        run("ip", "address", "add", f"{address}/{length}", "dev", device, *extra)
        words = ("ip", "neigh", "replace", OWN[version], "lladdr", PUBLIC_MAC, "dev", device)
        run(*words, "nud", "permanent")
        run("ip", f"-{version}", "route", "add", "default", "via", OWN[version])

    @contextmanager
    def attached(self, *, offload: bool) -> Iterator[None]:
        """Attach the program to where clients' packets come in; offload of the client's end."""
        state, sandbox = "on" if offload else "off", self._runner.sandbox
        pin = str(self._runner.compiled.programs["gale_tc_entry"].pin)
        self._client.command("ethtool", "-K", f"{PUBLIC}x", "tx", state)
        sandbox.command("tc", "qdisc", "add", "dev", PUBLIC, "clsact")
        try:
            where = ("dev", PUBLIC, "ingress", "prio", "1")
            sandbox.command("tc", "filter", "add", *where, "bpf", "da", "object-pinned", pin)
            yield
        finally:
            sandbox.command("tc", "qdisc", "del", "dev", PUBLIC, "clsact")

    def carry(
        self, service: Service, payload: bytes, *, segment: int = 0, enough: Callable[[bytes], bool]
    ) -> list[bytes]:
        """Have the client's kernel send to a service; return the frames that came to nodes.

        A datagram with the payload, or TCP's SYN. With `segment` it is one skb of datagrams of so
        many bytes. Returns when `enough` says so of a frame; nothing for long is an error.
        """
        with ExitStack() as stack:
            ear = stack.enter_context(self._node.run(_listening, f"{PRIVATE}x"))
            stack.enter_context(self._client.run(_sending, service, payload, segment))
            return list(self._heard(ear, enough))

    def _heard(self, ear: socket.socket, enough: Callable[[bytes], bool]) -> Iterator[bytes]:
        nodes = {bytes.fromhex(n.mac.replace(":", "")) for n in self._runner.world.nodes}
        while True:
            data = ear.recv(LARGEST)
            if data[:6] not in nodes or len(data) <= ETHERNET:
                continue
            yield data
            if enough(data):
                return


def _listening(device: str) -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    made.settimeout(TIMEOUT_S)
    index = socket.if_nametoindex(device)
    made.setsockopt(SOL_PACKET, ADD_MEMBERSHIP, struct.pack("I", index) + PROMISCUOUS[4:])
    made.bind((device, EVERY_PROTOCOL))
    return made


def _sending(service: Service, payload: bytes, segment: int) -> socket.socket:
    udp = service.protocol is Protocol.UDP
    kind = socket.SOCK_DGRAM if udp else socket.SOCK_STREAM
    made = socket.socket(FAMILIES[service.vip.version], kind)
    made.setblocking(False)
    to = (str(service.vip), service.port)
    if not udp:
        made.connect_ex(to)  # its SYN is on its way
        return made
    if segment:
        made.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, segment)
    made.sendto(payload, to)
    return made
