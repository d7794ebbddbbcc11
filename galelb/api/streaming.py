# SPDX-License-Identifier: Apache-2.0
"""A capture as an answer that goes on until it is over, or until its client leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import trio
from starlette.types import Receive, Scope, Send

from galelb.api.requests import RequestError, integer
from galelb.api.view import BalancerView, CaptureStream, CaptureWish
from galelb.model import IPAddress

__all__ = ["CAPTURE_PARAMETERS", "LAST_KEY", "CaptureResponse", "capture_wish"]

CAPTURE_PARAMETERS = ("service", "node", "everything", "dropped", "snaplen", "count", "seconds")
MIN_SNAPLEN, MAX_SNAPLEN = 64, 9216  # GALE_CAPTURE_SNAP, bpf/capture.h
MAX_COUNT = 1_000_000_000
DEFAULT_SECONDS, MAX_SECONDS = 3600, 86_400
PCAPNG = b"application/x-pcapng"
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
        snaplen=integer(params, "snaplen", CaptureWish().snaplen, MIN_SNAPLEN, MAX_SNAPLEN),
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


async def _send_all(capture: CaptureStream, send: Send) -> None:
    headers = [(b"content-type", PCAPNG), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    while (part := await capture.read()) is not None:
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _until_gone(receive: Receive, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
