# SPDX-License-Identifier: Apache-2.0
"""A very small HTTP server for the agent's API: one request a connection, all of it bounded.

The balancer's server would be twice as large as the agent that it serves.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs
import h11
import structlog
import trio

__all__ = [
    "MAX_BODY_BYTES",
    "MAX_CONNECTIONS",
    "Answer",
    "Handler",
    "Request",
    "WebServer",
    "error",
]

MAX_CONNECTIONS = 16
MAX_BODY_BYTES = 64 * 1024
_MAX_HEAD_BYTES = 16 * 1024
_READ_S = 5.0
_SEND_S = 5.0
_CLOSE_S = 1.0

log = structlog.get_logger(__name__)


@attrs.frozen(kw_only=True)
class Request:
    """What is asked; a body is read and means nothing."""

    method: str
    path: str
    query: str = ""
    authorization: str | None = None


@attrs.frozen
class Answer:
    """A JSON object with its status."""

    status: int
    body: Mapping[str, Any]
    headers: tuple[tuple[str, str], ...] = ()


Handler = Callable[[Request], Awaitable[Answer]]


def error(status: int, code: str, message: str, *headers: tuple[str, str]) -> Answer:
    """Return an error in the shape that the balancer's API has, too."""
    return Answer(status, {"error": {"code": code, "message": message}}, headers)


class WebServer:
    """Answers connections; whatever goes wrong with one is its own business."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._connections = 0

    async def handle(self, stream: trio.SocketStream) -> None:
        """Serve one connection, or close it at once when there are too many."""
        if self._connections >= MAX_CONNECTIONS:
            await trio.aclose_forcefully(stream)
            return
        self._connections += 1
        try:
            await self._serve(stream)
        except (trio.BrokenResourceError, trio.TooSlowError, h11.ProtocolError, OSError):
            pass  # The client left, or is too slow to be told anything.
        finally:
            self._connections -= 1
            await trio.aclose_forcefully(stream)

    async def _serve(self, stream: trio.SocketStream) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD_BYTES)
        request = None
        try:
            with trio.fail_after(_READ_S):
                request = await _read(connection, stream)
        except trio.TooSlowError:
            answer = error(408, "timeout", f"no whole request in {_READ_S:.0f} s")
        except h11.RemoteProtocolError as problem:
            answer = error(problem.error_status_hint, "bad_request", str(problem))
        else:
            if request is None:
                return
            answer = await self._answer(request)
        head = request is not None and request.method == "HEAD"
        await _send(connection, stream, answer, head=head)

    async def _answer(self, request: Request) -> Answer:
        try:
            return await self._handler(request)
        except Exception:
            log.exception("api_request_failed", method=request.method, path=request.path)
            return error(500, "internal", "internal error: the agent's log says more")


async def _read(connection: h11.Connection, stream: trio.SocketStream) -> Request | None:
    """Return a whole request; None when the client left before. Raises RemoteProtocolError."""
    request: Request | None = None
    size = 0
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some(_MAX_HEAD_BYTES))
        elif isinstance(event, h11.Request):
            request = _request(event)
        elif isinstance(event, h11.Data):
            size += len(event.data)
            if size > MAX_BODY_BYTES:
                text = f"a body may have {MAX_BODY_BYTES} bytes"
                raise h11.RemoteProtocolError(text, error_status_hint=413)
        else:
            return request


def _request(event: h11.Request) -> Request:
    headers = {name: value.decode("latin-1") for name, value in event.headers}
    path, _, query = event.target.decode("ascii").partition("?")
    return Request(
        method=event.method.decode("ascii"),
        path=path,
        query=query,
        authorization=headers.get(b"authorization"),
    )


async def _send(
    connection: h11.Connection, stream: trio.SocketStream, answer: Answer, *, head: bool
) -> None:
    body = json.dumps(answer.body, allow_nan=False).encode() + b"\n"
    headers = [
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
        ("cache-control", "no-store"),
        ("connection", "close"),
        *answer.headers,
    ]
    data = connection.send(h11.Response(status_code=answer.status, headers=headers)) or b""
    if not head:
        data += connection.send(h11.Data(data=body)) or b""
    with trio.fail_after(_SEND_S):
        await stream.send_all(data)
        await stream.send_eof()
    # What the client still sends would turn the end into a reset, before it has read the answer.
    with trio.move_on_after(_CLOSE_S):
        while await stream.receive_some(_MAX_HEAD_BYTES):
            pass
