# SPDX-License-Identifier: Apache-2.0
"""The socket at which a balancer gives its flows to others."""

from __future__ import annotations

import errno
import socket

import trio

from galelb.errors import GaleError
from galelb.model import IPAddress
from galelb.sockets import new_socket

__all__ = ["listen"]

_BACKLOG = 64


def listen(address: IPAddress, port: int) -> trio.SocketListener:
    """Return a listener; the address may come later, vanish and return.

    Raises:
        GaleError: another program has the port.
    """
    one = new_socket(address, socket.SOCK_STREAM)
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
