# SPDX-License-Identifier: Apache-2.0
"""The sockets of one member: UDP and TCP on one address and port."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator

import attrs
from galelb_plugins.sync_gossip.messages import Address

from galelb.errors import GaleError
from galelb.sockets import new_socket

__all__ = ["Sockets", "open_sockets"]

_BACKLOG = 128
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
        udp = stack.enter_context(new_socket(address[0], socket.SOCK_DGRAM))
        tcp = stack.enter_context(new_socket(address[0], socket.SOCK_STREAM))
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for one, kind in ((udp, "UDP"), (tcp, "TCP")):
            _bind(one, kind, address)
        tcp.listen(_BACKLOG)
        yield Sockets(udp, tcp)


def _bind(one: socket.socket, kind: str, address: Address) -> None:
    host, port = address
    try:
        one.bind((str(host), port))
    except OSError as error:
        hint = "; is another program, or another balancer, there?"
        text = f"sync_gossip: {kind} port {port} on {host}: {error.strerror or error}"
        raise GaleError(text + hint * (error.errno == errno.EADDRINUSE)) from error
