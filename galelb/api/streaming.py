# SPDX-License-Identifier: Apache-2.0
"""Answers that go on until they are over, or until their client leaves: captures and events."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import trio
from starlette.types import Receive, Scope, Send

from galelb.api.events import GAP, Event, Subscription
from galelb.api.limits import (
    DEFAULT_SECONDS,
    DEFAULT_SNAPLEN,
    MAX_COUNT,
    MAX_SECONDS,
    MAX_SNAPLEN,
    MIN_SNAPLEN,
)
from galelb.api.requests import RequestError, integer
from galelb.api.serialise import event_json
from galelb.api.view import BalancerView, CaptureStream, CaptureWish
from galelb.model import IPAddress

__all__ = ["LAST_KEY", "CaptureResponse", "EventsResponse", "capture_wish"]

PCAPNG = b"application/x-pcapng"
EVENT_STREAM = b"text/event-stream; charset=utf-8"
HEARTBEAT_S = 10.0
"""A stream without events says so this often, so that both ends notice when the other is gone."""
RETRY = b"retry: 1000\n\n"
HEARTBEAT = b": nothing new\n\n"
LAST_KEY = "galelb.last"
"""In a request's scope and its `state`: call it, and the usual limits of time do not hold."""


def _last(scope: Scope) -> None:
    """Let a request go on as long as its client reads; who does not read is still cut off."""
    for holder in (scope, scope.get("state") or {}):
        lift: Callable[[], None] | None = holder.get(LAST_KEY)
        if lift is not None:
            lift()


def capture_wish(
    params: dict[str, str], service: str | None, node: IPAddress | None
) -> CaptureWish:
    """Return what the parameters ask for; the caller has looked up service and node."""
    wish = CaptureWish(
        service=service,
        node=node,
        everything=_flag(params, "everything"),
        dropped=_flag(params, "dropped"),
        snaplen=integer(params, "snaplen", DEFAULT_SNAPLEN, MIN_SNAPLEN, MAX_SNAPLEN),
        count=integer(params, "count", 0, 1, MAX_COUNT) or None,
        seconds=integer(params, "seconds", DEFAULT_SECONDS, 1, MAX_SECONDS),
    )
    if wish.service is not None and wish.everything:
        raise RequestError(
            400, "bad_parameter", "everything means packets of no service, too: leave out service"
        )
    return wish


def _flag(params: Mapping[str, str], name: str) -> bool:
    text = params.get(name, "false")
    if text not in ("true", "false"):
        raise RequestError(400, "bad_parameter", f"{name} must be true or false, got {text!r}")
    return text == "true"


class CaptureResponse:
    """Answers 200 once programs capture; what hinders that is raised before anything is sent."""

    def __init__(self, view: BalancerView, wish: CaptureWish) -> None:
        self._view = view
        self._wish = wish

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send parts as they come."""
        _last(scope)
        async with self._view.capture(self._wish) as capture, trio.open_nursery() as nursery:
            nursery.start_soon(_until_gone, receive, nursery.cancel_scope)
            await _send_all(capture, send)
            nursery.cancel_scope.cancel()


class EventsResponse:
    """Server-sent events; as many at a time as `places` has room for."""

    def __init__(
        self, view: BalancerView, last_id: str | None, places: trio.CapacityLimiter
    ) -> None:
        self._view = view
        self._last_id = last_id
        self._places = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events as they come."""
        try:
            self._places.acquire_on_behalf_of_nowait(self)
        except trio.WouldBlock:
            most = int(self._places.total_tokens)
            text = f"{most} clients read events already: end one of them"
            raise RequestError(429, "too_many_streams", text) from None
        try:
            _last(scope)
            with self._view.events.subscribe(self._last_id) as subscription:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_until_gone, receive, nursery.cancel_scope)
                    await _send_events(subscription, send, head=scope["method"] == "HEAD")
                    nursery.cancel_scope.cancel()
        finally:
            self._places.release_on_behalf_of(self)


async def _send_events(subscription: Subscription, send: Send, *, head: bool) -> None:
    await _send_start(send, EVENT_STREAM)
    part: bytes | None = RETRY
    while part is not None and not head:
        await send({"type": "http.response.body", "body": part, "more_body": True})
        part = await _next_part(subscription)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _next_part(subscription: Subscription) -> bytes | None:
    with trio.move_on_after(HEARTBEAT_S):
        event = await subscription.next()
        return None if event is None else _event_text(event)
    return HEARTBEAT


def _event_text(event: Event) -> bytes:
    # A gap keeps the client's place: what comes next has an id again.
    name = "" if event.kind == GAP else f"id: {event.id}\n"
    return f"{name}event: {event.kind}\ndata: {json.dumps(event_json(event))}\n\n".encode()


async def _send_start(send: Send, media_type: bytes) -> None:
    headers = [(b"content-type", media_type), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def _send_all(capture: CaptureStream, send: Send) -> None:
    await _send_start(send, PCAPNG)
    while (part := await capture.read()) is not None:
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _until_gone(receive: Receive, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
