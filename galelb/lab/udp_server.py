# SPDX-License-Identifier: Apache-2.0
"""A query and response protocol over UDP, in the manner of DNS, for a lab's nodes."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

from trio.socket import SocketType

__all__ = ["MAX_DATAGRAM", "answer", "serve_udp"]

MAX_DATAGRAM = 4096

_IP_PKTINFO, _IPV6_RECVPKTINFO = 8, 49
_ROOM = socket.CMSG_SPACE(20)
_Message = tuple[int, int, bytes]


def answer(name: str, query: bytes, client: str, port: int) -> bytes:
    """Return the response to a query: the query's id, who answers and whom it saw."""
    return json.dumps(
        {"id": query.decode(errors="replace"), "node": name, "client": client, "port": port}
    ).encode()


async def serve_udp(name: str, sock: SocketType) -> None:
    """Answer queries on a bound socket until cancelled, from the address that each came to."""
    _ask_for_destinations(sock)
    while True:
        try:
            message: tuple[bytes, list[_Message], int, Any] = await sock.recvmsg(
                MAX_DATAGRAM, _ROOM
            )
            query, told, _, sender = message
            data = answer(name, query, sender[0], sender[1])
            await sock.sendmsg([data], [_source(*one) for one in told], 0, sender)
        except ConnectionError:
            # An ICMP error about an earlier answer is reported on the next call.
            continue


def _ask_for_destinations(sock: SocketType) -> None:
    """A node has several addresses, and one socket for all: have the kernel name each one."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)


def _source(level: int, kind: int, data: bytes) -> _Message:
    """Return a received datagram's destination as the source to send from, by any interface."""
    if level == socket.IPPROTO_IPV6:
        return level, kind, struct.pack("=16sI", data[:16], 0)
    return level, kind, struct.pack("=I4s4s", 0, data[4:8], b"")
