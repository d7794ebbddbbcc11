# SPDX-License-Identifier: Apache-2.0
"""A gRPC client on trio: one connection, unary calls and streams of bytes."""

from __future__ import annotations

import trio

from galelb.grpc.call import Call
from galelb.grpc.framing import CallError, Headers, StatusCode, request_headers
from galelb.grpc.limits import LinkLimits
from galelb.grpc.link import Link
from galelb.grpc.pipes import Pipe

__all__ = ["Channel"]


class Channel:
    """A connection to a server. It lives in the nursery that it was started in.

    Cancelling the nursery says goodbye and closes the stream. A lost connection ends only the
    calls: they fail with UNAVAILABLE.
    """

    def __init__(
        self,
        stream: trio.abc.Stream | Pipe,
        authority: str,
        limits: LinkLimits | None = None,
        *,
        scheme: str = "http",
        metadata: Headers | None = None,
    ) -> None:
        """Speak over `stream`; `metadata` goes with every call."""
        self._link = Link(stream, limits=limits or LinkLimits())
        self._authority = authority
        self._scheme = scheme
        self._metadata = metadata or []

    async def start(self, nursery: trio.Nursery) -> None:
        """Begin to carry calls in `nursery`."""
        await nursery.start(self._link.run)

    @property
    def closed(self) -> str | None:
        """Why the connection is closed, None while it is open."""
        return self._link.closed

    async def unary(self, path: str, request: bytes) -> bytes:
        """Call a method with one message each way; set the time-out by a cancel scope.

        Raises:
            CallError: the call failed.
        """
        call = self.stream(path)
        try:
            await call.send(request)
            call.end()
            answer = await call.receive()
            if answer is None:
                raise CallError(StatusCode.INTERNAL, "the answer has no message")
            if await call.receive() is not None:
                raise CallError(StatusCode.INTERNAL, "the answer has several messages")
        finally:
            call.cancel()
        return answer

    def stream(self, path: str) -> Call:
        """Begin a call with any number of messages each way; end it with `end` or `cancel`.

        Raises:
            CallError: UNAVAILABLE, the connection is closed.
        """
        headers = request_headers(path, self._authority, self._scheme)
        return self._link.open_call(headers + self._metadata)
