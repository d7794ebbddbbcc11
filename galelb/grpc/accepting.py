# SPDX-License-Identifier: Apache-2.0
"""Takes connections from a listening socket, faster than a flood of them can pile up."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Callable
from ipaddress import ip_address

import structlog
import trio

from galelb.model import IPAddress

__all__ = ["accept_all", "drop"]

log = structlog.get_logger(__name__)

_AT_ONCE = 64
"""Then everybody else has a turn."""
_FULL = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_FULL_PAUSE_S = 0.1
_RESET = struct.pack("ii", 1, 0)


async def accept_all(
    listener: trio.SocketListener, accept: Callable[[socket.socket, IPAddress], None]
) -> None:
    """Hand every connection to `accept`, which must not wait, until cancelled; closes the listener.

    Who cannot connect because the queue of the kernel is full is turned away for seconds. So
    those that are refused must cost as little as possible: no task is made for a connection here.
    """
    with socket.socket(fileno=listener.socket.detach()) as sock:
        sock.setblocking(False)
        while True:
            await trio.lowlevel.wait_readable(sock)
            try:
                for _ in range(_AT_ONCE):
                    accept(*_accept(sock))
            except BlockingIOError:
                continue
            except OSError as error:
                if error.errno in _FULL:
                    log.warning("grpc_cannot_accept", reason=error.strerror)
                    await trio.sleep(_FULL_PAUSE_S)


def _accept(sock: socket.socket) -> tuple[socket.socket, IPAddress]:
    connection, address = sock.accept()
    return connection, ip_address(address[0].partition("%")[0])


def drop(connection: socket.socket) -> None:
    """Close a connection at once and forget it: the kernel keeps no state of it either."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    connection.close()
