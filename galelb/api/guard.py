# SPDX-License-Identifier: Apache-2.0
"""Bound what one request may cost: the size and time of its body, and how many run at once."""

from __future__ import annotations

import json
from functools import partial
from math import inf

import structlog
import trio
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from galelb.api.streaming import LAST_KEY

__all__ = ["BODY_TIMEOUT_S", "MAX_BODY_BYTES", "MAX_RUNNING", "Guard", "error_response"]

MAX_BODY_BYTES = 64 * 1024
DRAIN_BYTES = 16 * MAX_BODY_BYTES
"""How much of a body that is too large is read away, so that the client sees our answer."""
BODY_TIMEOUT_S = 5.0
REQUEST_TIMEOUT_S = 20.0
MAX_RUNNING = 8

log = structlog.get_logger()


def error_response(
    status: int, code: str, message: str, headers: dict[str, str] | None = None
) -> Response:
    """Return an error in the one shape that all of the API's errors have."""
    # ASCII only: a message may quote a lone surrogate, which UTF-8 cannot carry.
    body = json.dumps({"error": {"code": code, "message": message}}) + "\n"
    return Response(body, status, headers, media_type="application/json")


class Guard:
    """ASGI middleware; reads the whole body first, and never lets an exception out."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._running = trio.CapacityLimiter(MAX_RUNNING)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or hand anything but HTTP through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            with trio.fail_after(BODY_TIMEOUT_S):
                body = await _read(receive)
        except trio.TooSlowError:
            await _refuse(scope, send, 408, "timeout", f"no whole body in {BODY_TIMEOUT_S:.0f} s")
            return
        if body is None:
            return
        if len(body) > MAX_BODY_BYTES:
            message = f"a body may have {MAX_BODY_BYTES} bytes"
            await _refuse(scope, send, 413, "body_too_large", message)
            return
        await self._answer(scope, _Replay(body, receive), send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def send_once(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        place = _Place(self._running)
        try:
            with trio.fail_after(REQUEST_TIMEOUT_S) as limit:
                scope[LAST_KEY] = partial(place.last, limit)
                async with place:
                    await self._app(scope, receive, send_once)
        except Exception:
            # Also what Starlette has already answered: it raises again, for servers that log.
            log.exception("api_request_failed", method=scope["method"], path=scope["path"])
            if not started:
                await error_response(500, "internal", "internal error")(scope, receive, send)


class _Place:
    """One of the requests that run at a time, until it ends, or turns out to last."""

    def __init__(self, running: trio.CapacityLimiter) -> None:
        self._running = running
        self._held = False

    async def __aenter__(self) -> None:
        await self._running.acquire_on_behalf_of(self)
        self._held = True

    async def __aexit__(self, *error: object) -> None:
        self._leave()

    def last(self, limit: trio.CancelScope) -> None:
        """Take the limit of time off, and make room for others."""
        limit.deadline = inf
        self._leave()

    def _leave(self) -> None:
        if self._held:
            self._held = False
            self._running.release_on_behalf_of(self)


class _Replay:
    """Hands the body that was read to the application, then what the client does."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


async def _read(receive: Receive) -> bytes | None:
    """Return the body, at most a little more than allowed; None when the client left."""
    parts: list[bytes] = []
    kept = drained = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        part = message.get("body", b"")
        if kept <= MAX_BODY_BYTES:
            parts.append(part)
            kept += len(part)
        drained += len(part)
        if not message.get("more_body", False) or drained > DRAIN_BYTES:
            return b"".join(parts)


async def _refuse(scope: Scope, send: Send, status: int, code: str, message: str) -> None:
    async def nothing() -> Message:
        return {"type": "http.disconnect"}

    # The rest of the body may still be on its way, so the connection cannot be used again.
    response = error_response(status, code, message, {"connection": "close"})
    await response(scope, nothing, send)
