# SPDX-License-Identifier: Apache-2.0
"""TCP to a VIP on one very node, past the kernel, which has the VIP itself.

Packets leave by a packet socket, with the forwarder's headers before them. The answers come to an
address of ours and a port that a socket of ours holds, so that no connection of the kernel's is
disturbed; a packet socket sees them before the kernel drops them, because they come from one of its
own addresses.
"""

from __future__ import annotations

import contextlib
import errno
import random
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import trio
from galelb_plugins.health_probe.connection import SEGMENT_BYTES, Connection, State
from galelb_plugins.health_probe.filter import attach_filter, filter_code
from galelb_plugins.health_probe.segments import Endpoints, Segment, packet_of, parse_packet

from galelb.errors import GaleError
from galelb.model import IPAddress
from galelb.sources import VipWay

__all__ = ["Exchange", "VipStream"]

_PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_PROTOCOLS = {4: 0x0800, 6: 0x86DD}
_TRIES = 50
_AT_ONCE = 256
_AGAIN_S = 0.2
"""Until what was not acknowledged is sent again; doubled each time."""


class Exchange:
    """All connections from one address of ours, at most `size` at a time.

    `run` has to run for anything to arrive. Raises GaleError when sockets cannot be made.
    """

    def __init__(self, source: IPAddress, size: int) -> None:
        self._source = source
        self._held, self.ports = _hold_ports(source, size)
        self._free = list(self.ports)
        random.shuffle(self._free)
        self._streams: dict[int, VipStream] = {}
        try:
            self._socket = _packet_socket(source, self.ports)
        except OSError as error:
            self._release()
            raise GaleError(
                f"cannot open a packet socket: {error.strerror or error}; the balancer needs"
                " CAP_NET_RAW"
            ) from error

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hand over what arrives until cancelled, then close everything."""
        task_status.started()
        try:
            while True:
                await trio.lowlevel.wait_readable(self._socket)
                self._receive()
        finally:
            self._socket.close()
            self._release()

    @contextlib.asynccontextmanager
    async def connect(self, way: VipWay, vip: IPAddress, port: int) -> AsyncIterator[VipStream]:
        """Connect; resets the connection at the end. Set the time-out yourself.

        Raises OSError, or GaleError when the forwarder has no way to the node.
        """
        if not self._free:
            raise OSError(errno.EADDRNOTAVAIL, "all ports for checks are in use")
        local = self._free.pop(0)  # the one that was free longest
        ends = Endpoints(self._source, local, vip, port)
        stream = self._streams[local] = VipStream(self._socket, ends, way)
        try:
            await stream.open()
            yield stream
        finally:
            stream.reset()
            del self._streams[local]
            self._free.append(local)

    def _receive(self) -> None:
        """Take a bounded number of packets, so that others get their turn."""
        for _ in range(_AT_ONCE):
            try:
                packet = self._socket.recv(65535, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:  # an interface went down: what it said is told once
                continue
            found = parse_packet(packet)
            stream = self._streams.get(found[0]) if found else None
            if found is not None and stream is not None:
                stream.take(found[1])

    def _release(self) -> None:
        for sock in self._held:
            sock.close()


class VipStream(trio.abc.Stream):
    """One connection; a stream like any other once it is open."""

    def __init__(self, sock: socket.socket, ends: Endpoints, way: VipWay) -> None:
        self._socket = sock
        self._ends = ends
        self._way = way
        self._connection = Connection(random.getrandbits(32))
        self._changed = trio.Event()
        self._closed = False

    async def open(self) -> None:
        """Wait until the node has accepted. Raises ConnectionRefusedError, OSError, GaleError."""
        await self._until(lambda: self._connection.state is not State.OPENING)
        if self._connection.state is State.REFUSED:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "connection refused")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send and wait until the node has it."""
        data = bytes(data)
        for at in range(0, len(data), SEGMENT_BYTES):
            self._check()
            self._connection.send(data[at : at + SEGMENT_BYTES])
            await self._until(
                lambda: self._connection.acknowledged or self._connection.state is State.RESET
            )
        self._check()

    async def wait_send_all_might_not_block(self) -> None:
        """Return at once: what is sent is waited for."""
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return what has arrived, empty at the end."""
        await trio.lowlevel.checkpoint()
        while True:
            if data := self._connection.read(max_bytes or 65536):
                return data
            if self._connection.ended:
                return b""
            self._check()
            await self._changed.wait()

    async def aclose(self) -> None:
        """Reset the connection."""
        self.reset()
        await trio.lowlevel.checkpoint()

    def reset(self) -> None:
        """Let the node forget the connection; nothing if that was done."""
        last = None if self._closed else self._connection.close()
        self._closed = True
        self._answer(last)
        self._wake()

    def take(self, segment: Segment) -> None:
        """Apply what arrived."""
        self._answer(self._connection.take(segment))
        self._wake()

    def _answer(self, segment: Segment | None) -> None:
        """Send what nobody waits for; what the way there lacks is told when something is sent."""
        if segment is not None:
            with contextlib.suppress(OSError, GaleError):
                self._put(segment)

    async def _until(self, done: Callable[[], bool]) -> None:
        """Send, and again and again, until `done`."""
        pause = _AGAIN_S
        while not done():
            self._put(self._connection.again())
            with trio.move_on_after(pause):
                while not done():
                    await self._changed.wait()
            pause *= 2
        await trio.lowlevel.checkpoint()

    def _check(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError
        if self._connection.state is State.RESET:
            raise trio.BrokenResourceError("connection reset")

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _put(self, segment: Segment) -> None:
        """Send a packet; a full queue is like a packet lost on the way."""
        packet = self._way.wrap(packet_of(self._ends, segment))
        hop = self._way.hop
        mac = bytes.fromhex(hop.dst_mac.replace(":", ""))
        protocol = _PROTOCOLS[packet[0] >> 4]
        try:
            name = socket.if_indextoname(hop.ifindex)
            self._socket.sendto(packet, socket.MSG_DONTWAIT, (name, protocol, 0, 0, mac))
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ENOBUFS):
                raise


def _hold_ports(source: IPAddress, size: int) -> tuple[list[socket.socket], range]:
    """Return sockets that hold `size` neighbouring ports, and the ports.

    They are in the range that the kernel itself connects from, which forwarders leave to it.
    """
    family = socket.AF_INET6 if source.version == 6 else socket.AF_INET
    low, high = (int(word) for word in _PORT_RANGE.read_text().split())
    for _ in range(_TRIES):
        start = random.randint(low, max(low, high + 1 - size))  # noqa: S311 - no secret
        ports = range(start, start + size)
        held = _bind_all(family, source, ports)
        if held is not None:
            return held, ports
    raise GaleError(f"found no {size} free neighbouring ports on {source}")


def _bind_all(family: int, source: IPAddress, ports: range) -> list[socket.socket] | None:
    """Return a socket bound to each of the ports, or None."""
    held: list[socket.socket] = []
    try:
        for port in ports:
            held.append(socket.socket(family, socket.SOCK_STREAM))
            held[-1].bind((str(source), port))
    except (OSError, OverflowError):
        for sock in held:
            sock.close()
        return None
    return held


def _packet_socket(source: IPAddress, ports: range) -> socket.socket:
    """Return a socket that sees what comes to these ports, on every interface."""
    protocol = socket.htons(_PROTOCOLS[source.version])
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, protocol)
    try:
        attach_filter(sock, filter_code(source, ports))
    except OSError:
        sock.close()
        raise
    return sock
