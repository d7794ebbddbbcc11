# SPDX-License-Identifier: Apache-2.0
"""The sockets over which balancers fetch each other's flows."""

from __future__ import annotations

import errno
import socket

import trio

from galelb.errors import GaleError
from galelb.model import IPAddress

__all__ = ["dial", "listen", "prepared"]

_BACKLOG = 64
_IP_BIND_ADDRESS_NO_PORT = 24
_IP_FREEBIND, _IPV6_FREEBIND = 15, 78
"""From linux/in.h and in6.h; Python has no names for them."""
_SILENT_MS = 5000
"""A stream whose bytes are not acknowledged for this long is broken."""


def listen(address: IPAddress, port: int) -> trio.SocketListener:
    """Return a listener; the address may come later, vanish and return.

    Raises:
        GaleError: another program has the port.
    """
    one = _socket(address)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind((str(address), port))
        one.listen(_BACKLOG)
    except OSError as error:
        one.close()
        hint = "; another [load_balancer_quorum] sharing_port may be free"
        text = f"connection sharing: TCP port {port} on {address}: {error.strerror or error}"
        raise GaleError(text + hint * (error.errno == errno.EADDRINUSE)) from error
    return trio.SocketListener(trio.socket.from_stdlib_socket(one))


async def dial(own: IPAddress, address: IPAddress, port: int) -> trio.SocketStream:
    """Return a stream from one's own address, so that the other side knows who calls.

    Raises OSError. Waits without end.
    """
    one = _socket(own)
    one.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
    stream = trio.socket.from_stdlib_socket(one)
    try:
        await stream.bind((str(own), 0))
        await stream.connect((str(address), port))
        return prepared(trio.SocketStream(stream))
    except BaseException:
        stream.close()
        raise


def prepared(stream: trio.SocketStream) -> trio.SocketStream:
    """Return the stream, which now notices when the other side is gone."""
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENT_MS)
    return stream


def _socket(address: IPAddress) -> socket.socket:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    one = socket.socket(family, socket.SOCK_STREAM)
    one.setblocking(False)
    if family == socket.AF_INET:
        one.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
    else:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
    return one
