# SPDX-License-Identifier: Apache-2.0
"""A machine of somebody else on a lab's private network: it hears everything and has no key."""

import contextlib
import ctypes
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address, ip_network
from typing import TypeVar

import attrs

from galelb.lab.hosts import PEER_PORT, PRIVATE, SHARING_PORT, Host, Plan
from galelb.lab.topology import NETNS_DIR, nsenter, run_tool

T = TypeVar("T")
PORTS = frozenset({PEER_PORT, SHARING_PORT})
DEVICE = "prv0"
_FIRST, _ADDRESSES = 240, 8
_CLONE_NEWNET = 0x40000000
_EVERY_PROTOCOL = 3
_ETHERNET, _LARGEST, _BUFFER = 14, 65536, 1 << 24
_IP = struct.Struct("!BBHHHBBH4s4s")
_UDP = struct.Struct("!HHHH")
_libc = ctypes.CDLL(None, use_errno=True)


@attrs.frozen
class Heard:
    """A packet that one balancer sent to another; `frame` is all of it."""

    protocol: int
    source: IPv4Address
    to: IPv4Address
    ports: tuple[int, int]
    payload: bytes
    frame: bytes

    @property
    def is_datagram(self) -> bool:
        """Whether it is a datagram of gossip rather than a part of a stream."""
        return self.protocol == socket.IPPROTO_UDP


def inside(namespace: str, function: Callable[[], T]) -> T:
    """Run a function in a namespace, in a thread made for it; sockets that it makes stay there."""
    outcome: list[T] = []
    problems: list[BaseException] = []

    def run() -> None:
        try:
            with (NETNS_DIR / namespace).open("rb") as file:
                if _libc.setns(file.fileno(), _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), f"setns to {namespace}")
            outcome.append(function())
        except BaseException as error:
            problems.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if problems:
        raise problems[0]
    return outcome[0]


@contextlib.contextmanager
def wiretap(plan: Plan) -> Iterator[list[Heard]]:
    """Hear all that balancers say to each other during a block, but for its last moments.

    As a switch that floods would show it: at every port of the network, each packet once.
    """
    ear = inside(plan.network(PRIVATE).namespace, _ear)
    heard: list[Heard] = []
    seen: set[bytes] = set()
    ended = threading.Event()

    def listen() -> None:
        while not ended.is_set():
            try:
                frame = ear.recv(_LARGEST)
            except TimeoutError:
                continue
            packet = _packet(frame)
            if packet is not None and frame not in seen:
                seen.add(frame)
                heard.append(packet)

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        yield heard
    finally:
        ended.set()
        thread.join()
        ear.close()


def _ear() -> socket.socket:
    ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_EVERY_PROTOCOL))
    ear.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
    ear.settimeout(0.1)
    return ear


def _packet(frame: bytes) -> Heard | None:
    if frame[12:14] != b"\x08\x00" or len(frame) < _ETHERNET + 28:
        return None
    packet = frame[_ETHERNET : _ETHERNET + int.from_bytes(frame[16:18], "big")]
    protocol, rest = packet[9], packet[4 * (packet[0] & 15) :]
    ports = struct.unpack_from("!HH", rest)
    if protocol not in {socket.IPPROTO_UDP, socket.IPPROTO_TCP} or PORTS.isdisjoint(ports):
        return None
    skip = 8 if protocol == socket.IPPROTO_UDP else rest[12] >> 4 << 2
    source, to = IPv4Address(packet[12:16]), IPv4Address(packet[16:20])
    return Heard(protocol, source, to, ports, rest[skip:], frame)


def datagram(source: IPv4Address, to: IPv4Address, payload: bytes, port: int = PEER_PORT) -> bytes:
    """Return a UDP packet from that address and the port of gossip, without a checksum of UDP."""
    length = _UDP.size + len(payload)
    fields = [0x45, 0, _IP.size + length, 0, 0, 64, socket.IPPROTO_UDP, 0, source.packed, to.packed]
    words = struct.unpack("!10H", _IP.pack(*fields))
    total = sum(words)
    total = (total & 0xFFFF) + (total >> 16)
    fields[7] = 0xFFFF ^ ((total & 0xFFFF) + (total >> 16))
    return _IP.pack(*fields) + _UDP.pack(PEER_PORT, port, length, 0) + payload


def mutations(data: bytes, rng: random.Random) -> Iterator[bytes]:
    """Return what a datagram becomes with a bit turned, cut, lengthened, and blown up."""
    turned = bytearray(data)
    turned[rng.randrange(len(turned))] ^= 1 << rng.randrange(8)
    yield bytes(turned)
    yield data[: rng.randrange(len(data))]
    yield data + rng.randbytes(rng.randrange(1, 40))
    yield data + bytes(1472 - len(data))


class Rogue:
    """The machine; it is gone with the lab's namespaces.

    It sends from its own MAC address: who may claim the ports of a switch is no matter of galelb.
    """

    def __init__(self, plan: Plan) -> None:
        self.namespace = f"{plan.spec.prefix}-rogue"
        self._macs = {one.addresses(PRIVATE)[0].ip: _mac(one) for one in _balancers(plan)}
        network = plan.network(PRIVATE).namespace
        first = ip_network(f"{next(iter(self._macs))}/24", strict=False).network_address + _FIRST
        self.addresses = tuple(first + more for more in range(_ADDRESSES))
        run_tool(["ip", "netns", "add", self.namespace])
        peer = ["peer", "name", DEVICE, "netns", self.namespace]
        run_tool(["ip", "-n", network, "link", "add", "rogue", "type", "veth", *peer])
        run_tool(["ip", "-n", network, "link", "set", "rogue", "master", "br0", "up"])
        commands = ["link set lo up", f"link set {DEVICE} up"]
        commands += [f"address add {address}/24 dev {DEVICE}" for address in self.addresses]
        run_tool(["ip", "-n", self.namespace, "-batch", "-"], "\n".join(commands) + "\n")
        # As the lab does it: what XDP gets must have its checksums.
        tool = ["ethtool", "-K", DEVICE, "tx", "off", "gro", "on"]
        run_tool(nsenter(self.namespace, tool))
        self._mouth = inside(self.namespace, _mouth)

    def close(self) -> None:
        """Be gone."""
        self._mouth.close()
        run_tool(["ip", "netns", "delete", self.namespace])

    def send(self, packets: Iterable[bytes]) -> int:
        """Send IPv4 packets to the balancers that they are addressed to; return how many."""
        own, sent = self._mouth.getsockname()[4], 0
        for packet in packets:
            mac = self._macs[IPv4Address(packet[16:20])]
            self._mouth.send(mac + own + b"\x08\x00" + packet)
            sent += 1
        return sent

    def dial(self, to: IPv4Address, port: int, source: IPv4Address | None = None) -> socket.socket:
        """Return a TCP connection to a balancer. Raises OSError."""
        own = str(source or self.addresses[0])

        def connect() -> socket.socket:
            return socket.create_connection((str(to), port), 2, (own, 0))

        return inside(self.namespace, connect)


def _balancers(plan: Plan) -> list[Host]:
    return [one for one in plan.hosts if one.role.value == "balancer"]


def _mac(host: Host) -> bytes:
    words = run_tool(["ip", "-n", host.namespace, "-br", "link", "show", DEVICE]).split()
    return bytes.fromhex(words[2].replace(":", ""))


def _mouth() -> socket.socket:
    mouth = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    mouth.bind((DEVICE, 0))
    return mouth
