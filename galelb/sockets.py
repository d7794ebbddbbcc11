# SPDX-License-Identifier: Apache-2.0
"""Sockets of one balancer to another, bound to an address that may be missing for a while."""

from __future__ import annotations

import socket

import trio

from galelb.model import IPAddress

__all__ = ["dial", "new_socket", "prepared"]

_IP_BIND_ADDRESS_NO_PORT = 24
_IP_FREEBIND, _IPV6_FREEBIND = 15, 78
"""From linux/in.h and in6.h; Python has no names for them."""
_SILENT_MS = 5000
"""A stream whose bytes are not acknowledged for this long is broken."""


def new_socket(address: IPAddress, kind: socket.SocketKind) -> socket.socket:
    """Return a socket of an address's family, not bound yet, which does not block.

    It can be bound to an address that comes later, vanishes and returns.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    one = socket.socket(family, kind)
    one.setblocking(False)
    if family == socket.AF_INET:
        one.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
    else:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
    return one


async def dial(own: IPAddress, address: IPAddress, port: int) -> trio.SocketStream:
    """Return a stream from one's own address, so that the other side knows who calls.

    Raises OSError. Waits without end.
    """
    one = new_socket(own, socket.SOCK_STREAM)
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
