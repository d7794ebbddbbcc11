# SPDX-License-Identifier: Apache-2.0
"""The sockets of one member: UDP and TCP on one address and port, and streams to others.

They are bound so that the address may be missing: it can come later, vanish and return.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator

import attrs
import trio
from galelb_plugins.sync_gossip.messages import Address

from galelb.errors import GaleError
from galelb.model import IPAddress

__all__ = ["Sockets", "connect", "open_sockets", "prepared"]

_BACKLOG = 128
_IP_BIND_ADDRESS_NO_PORT = 24
_IPV6_FREEBIND = 78
_IP_FREEBIND = 15
"""From linux/in.h and in6.h; Python has no names for them."""
_SILENT_MS = 5000
"""A stream whose bytes are not acknowledged for this long is broken."""
_RECEIVE_BUFFER = 1 << 20
"""Bytes of datagrams that may wait while this process does not run."""


@attrs.frozen
class Sockets:
    """Both sockets of a member."""

    udp: socket.socket
    tcp: socket.socket


@contextlib.contextmanager
def open_sockets(address: Address) -> Iterator[Sockets]:
    """Bind both sockets; they are closed at the end of the block.

    Raises:
        GaleError: another program has the port.
    """
    with contextlib.ExitStack() as stack:
        udp = stack.enter_context(_socket(address[0], socket.SOCK_DGRAM))
        tcp = stack.enter_context(_socket(address[0], socket.SOCK_STREAM))
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for one, kind in ((udp, "UDP"), (tcp, "TCP")):
            _bind(one, kind, address)
        tcp.listen(_BACKLOG)
        yield Sockets(udp, tcp)


async def connect(own: IPAddress, to: Address) -> trio.SocketStream:
    """Return a stream from one's own address, so that the other side knows who calls.

    Raises OSError. Waits without end.
    """
    one = _socket(own, socket.SOCK_STREAM)
    one.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
    stream = trio.socket.from_stdlib_socket(one)
    try:
        await stream.bind((str(own), 0))
        await stream.connect((str(to[0]), to[1]))
        return prepared(stream)
    except BaseException:
        stream.close()
        raise


def prepared(stream: trio.socket.SocketType) -> trio.SocketStream:
    """Return a connected socket as a stream that notices when the other side is gone."""
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENT_MS)
    return trio.SocketStream(stream)


def _socket(address: IPAddress, kind: socket.SocketKind) -> socket.socket:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    one = socket.socket(family, kind)
    one.setblocking(False)
    if family == socket.AF_INET:
        one.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
    else:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
    return one


def _bind(one: socket.socket, kind: str, address: Address) -> None:
    host, port = address
    try:
        one.bind((str(host), port))
    except OSError as error:
        hint = "; is another program, or another balancer, there?"
        text = f"sync_gossip: {kind} port {port} on {host}: {error.strerror or error}"
        raise GaleError(text + hint * (error.errno == errno.EADDRINUSE)) from error
