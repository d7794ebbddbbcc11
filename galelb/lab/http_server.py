# SPDX-License-Identifier: Apache-2.0
"""The web server of a lab's node: HTTP/1.1 with keep-alive, and answers that can be verified.

GET /                          which node answered, and the client's address as it saw it
GET /bytes/N                   N bytes of a known stream; their SHA-256 is in a header
GET /slow?bytes=N&rate=R       the same at R bytes a second
GET /health                    200
GET /echo                      with `upgrade: echo`: every byte that follows comes back

Every answer names the node in x-node and the client's address, as the node saw it, in x-client.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from functools import partial
from urllib.parse import parse_qs, urlsplit

import attrs
import h11
import trio

from galelb.lab import payload
from galelb.lab.many import ManySockets

__all__ = [
    "CLIENT_HEADER",
    "DIGEST_HEADER",
    "ECHO_PROTOCOL",
    "NODE_HEADER",
    "HttpServer",
    "Pace",
]

NODE_HEADER = "x-node"
CLIENT_HEADER = "x-client"
DIGEST_HEADER = "x-content-sha256"
ECHO_PROTOCOL = "echo"

_READ_SIZE = 65536
_IDLE_TIMEOUT_S = 120
_PACE_S = 0.1


@attrs.frozen
class Answer:
    """One response: its body comes in blocks, at `rate` bytes a second when given."""

    status: int
    size: int
    blocks: Iterator[bytes]
    headers: tuple[tuple[str, str], ...] = ()
    rate: int | None = None


class HttpServer:
    """Serves connections as the node `name`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._echoes = ManySockets()

    async def serve(self, listeners: list[trio.SocketListener]) -> None:
        """Serve what listeners accept until cancelled."""
        with self._echoes:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._echoes.run)
                await trio.serve_listeners(self._handle, listeners)

    async def _handle(self, stream: trio.SocketStream) -> None:
        """Serve one connection until the client closes it, breaks HTTP or idles too long."""
        connection = h11.Connection(h11.SERVER)
        try:
            while (request := await _next_request(connection, stream)) is not None:
                if _wants_echo(request):
                    await self._echo(connection, stream)
                    return
                await self._respond(connection, stream, request)
        except (trio.BrokenResourceError, trio.TooSlowError, h11.ProtocolError, OSError):
            pass  # The client's business: it sees the connection end.
        finally:
            await trio.aclose_forcefully(stream)

    async def _respond(
        self, connection: h11.Connection, stream: trio.SocketStream, request: h11.Request
    ) -> None:
        answer = await self._answer(request, stream)
        headers = [
            ("content-length", str(answer.size)),
            ("cache-control", "no-store"),
            (NODE_HEADER, self._name),
            (CLIENT_HEADER, stream.socket.getpeername()[0]),
            *answer.headers,
        ]
        head = connection.send(h11.Response(status_code=answer.status, headers=headers))
        pace = Pace(answer.rate)
        # The head travels with the first block: a short answer is one packet.
        pending = head or b""
        for block in _pieces(answer):
            await pace.wait(len(block))
            await _send(stream, pending + (connection.send(h11.Data(data=block)) or b""))
            pending = b""
        await _send(stream, pending + (connection.send(h11.EndOfMessage()) or b""))

    async def _echo(self, connection: h11.Connection, stream: trio.SocketStream) -> None:
        headers = [("upgrade", ECHO_PROTOCOL), ("connection", "upgrade"), (NODE_HEADER, self._name)]
        switch = h11.InformationalResponse(status_code=101, headers=headers)
        await _send(stream, connection.send(switch))
        data, _ = connection.trailing_data
        await _send(stream, data)
        sock = socket.socket(fileno=stream.socket.detach())
        self._echoes.add(sock, partial(self._send_back, sock))

    def _send_back(self, sock: socket.socket, data: bytes | OSError) -> None:
        try:
            done = isinstance(data, OSError) or not data or sock.send(data) < len(data)
        except OSError:
            done = True
        if done:  # The client is gone, or sends without reading.
            self._echoes.close(sock)

    async def _answer(self, request: h11.Request, stream: trio.SocketStream) -> Answer:
        url = urlsplit(request.target.decode())
        if request.method != b"GET":
            return _text(405, "only GET")
        if url.path == "/":
            client = stream.socket.getpeername()
            seen = {"node": self._name, "client": client[0], "port": client[1]}
            return _text(200, json.dumps(seen))
        if url.path == "/health":
            return _text(200, "ok")
        return await _stream_answer(url.path, parse_qs(url.query))


async def _stream_answer(path: str, query: dict[str, list[str]]) -> Answer:
    rate = None
    if path.startswith("/bytes/"):
        size = _number(path.removeprefix("/bytes/"), payload.MAX_SIZE)
    elif path == "/slow":
        size = _number(query.get("bytes", [""])[0], payload.MAX_SIZE)
        rate = _number(query.get("rate", [""])[0], payload.MAX_SIZE)
    else:
        return _text(404, "no such page")
    if size is None or (path == "/slow" and not rate):
        return _text(400, f"needs numbers up to {payload.MAX_SIZE}")
    # Some seconds for the largest bodies: other connections must not wait for that.
    if size > payload.BLOCK_SIZE:
        total = await trio.to_thread.run_sync(payload.digest, size)
    else:
        total = payload.digest(size)
    return Answer(200, size, payload.blocks(size), ((DIGEST_HEADER, total),), rate)


def _wants_echo(request: h11.Request) -> bool:
    upgrade = dict(request.headers).get(b"upgrade", b"").decode()
    return request.target == b"/echo" and upgrade == ECHO_PROTOCOL


def _number(text: str, most: int) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and int(text[:12]) <= most else None


def _text(status: int, text: str) -> Answer:
    data = text.encode() + b"\n"
    return Answer(status, len(data), iter([data]))


def _pieces(answer: Answer) -> Iterator[bytes]:
    """Yield the body in blocks, or in as much as is due at a time when it is paced."""
    piece = payload.BLOCK_SIZE if answer.rate is None else max(1, int(answer.rate * _PACE_S))
    for block in answer.blocks:
        for offset in range(0, len(block), piece):
            yield block[offset : offset + piece]


class Pace:
    """Lets through `rate` bytes a second; everything at once without a rate."""

    def __init__(self, rate: int | None) -> None:
        self._rate = rate
        self._start = trio.current_time()
        self._sent = 0

    async def wait(self, size: int) -> None:
        """Return when `size` more bytes are due."""
        if self._rate is not None:
            self._sent += size
            await trio.sleep_until(self._start + self._sent / self._rate)


async def _next_request(
    connection: h11.Connection, stream: trio.SocketStream
) -> h11.Request | None:
    """Return the next complete request; None when the client is done."""
    if connection.our_state is h11.DONE:
        connection.start_next_cycle()
    elif connection.our_state is not h11.IDLE:
        return None
    request = None
    while not isinstance(event := await _next_event(connection, stream), h11.EndOfMessage):
        if isinstance(event, h11.ConnectionClosed):
            return None
        if isinstance(event, h11.Request):
            request = event
    return request


async def _next_event(connection: h11.Connection, stream: trio.SocketStream) -> object:
    while (event := connection.next_event()) is h11.NEED_DATA:
        connection.receive_data(await _receive(stream))
    return event


async def _receive(stream: trio.SocketStream) -> bytes:
    with trio.fail_after(_IDLE_TIMEOUT_S):
        return bytes(await stream.receive_some(_READ_SIZE))


async def _send(stream: trio.SocketStream, data: bytes | None) -> None:
    if data:
        with trio.fail_after(_IDLE_TIMEOUT_S):
            await stream.send_all(data)
