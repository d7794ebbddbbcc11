# SPDX-License-Identifier: Apache-2.0
"""A query and response protocol over UDP, in the manner of DNS, for a lab's nodes."""

from __future__ import annotations

import json

from trio.socket import SocketType

__all__ = ["MAX_DATAGRAM", "answer", "serve_udp"]

MAX_DATAGRAM = 4096


def answer(name: str, query: bytes, client: str, port: int) -> bytes:
    """Return the response to a query: the query's id, who answers and whom it saw."""
    return json.dumps(
        {"id": query.decode(errors="replace"), "node": name, "client": client, "port": port}
    ).encode()


async def serve_udp(name: str, sock: SocketType) -> None:
    """Answer queries on a bound socket until cancelled."""
    while True:
        try:
            query, sender = await sock.recvfrom(MAX_DATAGRAM)
            await sock.sendto(answer(name, query, sender[0], sender[1]), sender)
        except ConnectionError:
            # An ICMP error about an earlier answer is reported on the next call.
            continue
