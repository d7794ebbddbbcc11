# SPDX-License-Identifier: Apache-2.0
"""Connections to nodes' own addresses, by the kernel."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import AsyncIterator

import trio

from galelb.model import IPAddress

__all__ = ["connect"]

_RESET_AT_CLOSE = struct.pack("ii", 1, 0)


@contextlib.asynccontextmanager
async def connect(address: IPAddress, port: int) -> AsyncIterator[trio.abc.Stream]:
    """Connect to an address and port. Raises OSError."""
    family = trio.socket.AF_INET6 if address.version == 6 else trio.socket.AF_INET
    sock = trio.socket.socket(family, trio.socket.SOCK_STREAM)
    with sock:
        # No TIME_WAIT: thousands of checks would use up the ports.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
        await sock.connect((str(address), port))
        yield trio.SocketStream(sock)
