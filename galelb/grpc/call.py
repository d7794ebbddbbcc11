# SPDX-License-Identifier: Apache-2.0
"""One gRPC call on a link, seen from either side; messages are bytes."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import h2.errors
import h2.exceptions
import trio

from galelb.grpc.framing import (
    PREFIX_BYTES,
    CallError,
    Headers,
    MessageReader,
    StatusCode,
    encode_message,
    response_headers,
    status_from,
    trailers,
)
from galelb.grpc.signal import Signal

if TYPE_CHECKING:
    from galelb.grpc.link import Link

__all__ = ["Call"]

_MAX_BACKLOG = 64 * 1024
"""Bytes behind a slow write, from which on messages that may be dropped are dropped."""
_RACE = contextlib.suppress(h2.exceptions.ProtocolError)
"""The stream may have been closed by a frame that h2 has read and we have not seen yet."""


class Call:
    """A call. Made by `Link`; whoever handles it ends it with `finish`, `end` or `cancel`."""

    def __init__(self, link: Link, stream_id: int, headers: dict[bytes, bytes]) -> None:
        self.path = headers.get(b":path", b"").decode("latin-1")
        self.headers = headers
        """Request headers at the server, response headers at the client."""
        self._link = link
        self._id = stream_id
        self._reader = MessageReader(link.limits.max_message)
        self._messages: deque[bytes] = deque()
        self._uncredited = 0
        """Received bytes whose window was not given back."""
        self._changed = Signal()
        self._failure: CallError | None = None
        self._remote_ended = False
        self._local_ended = False
        self._consumer: Callable[[bytes], bool] | None = None
        self._consumer_failure: Exception | None = None
        self._headers_sent = False

    # used by whoever handles the call

    async def receive(self) -> bytes | None:
        """Return the next message, None after the last one.

        Raises:
            CallError: the call failed, was reset, or its connection is lost (UNAVAILABLE).
        """
        await trio.lowlevel.checkpoint()
        while not self._messages:
            if self._heard_out():
                return None
            await self._changed.wait()
        payload = self._messages.popleft()
        self._credit(len(payload) + PREFIX_BYTES)
        return payload

    async def consume(self, consumer: Callable[[bytes], bool]) -> bool:
        """Hand each message to `consumer` as soon as it is read, until that returns False.

        Returns True then, and False after the last message. `consumer` runs in the task that
        reads the connection and must not block; no task is switched to for a message. What it
        raises is raised here.

        Raises:
            CallError: as `receive`.
        """
        await trio.lowlevel.checkpoint()
        self._consumer, self._consumer_failure = consumer, None
        try:
            while True:
                self._feed()
                if self._consumer_failure is not None:
                    raise self._consumer_failure
                if self._consumer is None:
                    return True
                if self._heard_out():
                    return False
                await self._changed.wait()
        finally:
            self._consumer = None

    async def wait_over(self) -> None:
        """Wait until nothing can be sent any more: the call has failed or was ended here."""
        await trio.lowlevel.checkpoint()
        while not self._over:
            await self._changed.wait()

    async def send(self, payload: bytes) -> None:
        """Send a message; waits while the other side gives no room.

        Raises:
            CallError: the call is over. A part of the message may have been sent.
        """
        await trio.lowlevel.checkpoint()
        self._begin_answer()
        data = encode_message(payload)
        while data:
            room = self._room()
            if room <= 0:
                await self._link.room.wait()
                continue
            self._put(data[:room])
            data = data[room:]

    def send_nowait(self, payload: bytes) -> bool:
        """Send a message if there is room for the whole of it, else drop it and return False.

        Raises:
            CallError: the call is over.
        """
        data = encode_message(payload)
        if self._window() < len(data) or self._link.backlog > _MAX_BACKLOG:
            return False
        self._begin_answer()
        self._put(data)
        return True

    def finish(self, code: StatusCode, message: str = "") -> None:
        """End the call at the server with a status; nothing if it is over already."""
        end = trailers(code, message)
        self._answer_last(end if self._headers_sent else response_headers() + end)

    def refuse(self, http_status: int) -> None:
        """End a request at the server that is no gRPC call at all."""
        self._answer_last([(b":status", str(http_status).encode())])

    def end(self) -> None:
        """Say at the client that no message follows; nothing if the call is over."""
        if not self._over:
            self._local_ended = True
            with _RACE:
                self._link.conn.end_stream(self._id)
            self._link.flush()

    def cancel(self) -> None:
        """Give the call up; nothing if it is over."""
        if self._failure is None and not (self._local_ended and self._remote_ended):
            self.abort(CallError(StatusCode.CANCELLED, "cancelled here"))

    def abort(self, error: CallError) -> None:
        """Reset the stream and let whoever handles the call see `error`."""
        if self._failure is None:
            self._reset(h2.errors.ErrorCodes.CANCEL)
        self.fail(error)

    # used by the link

    def on_headers(self, headers: dict[bytes, bytes]) -> None:
        """Take response headers or trailers (client)."""
        if b":status" in headers:
            self.headers = headers
            if headers[b":status"] != b"200":
                text = f"HTTP status {headers[b':status']!r}"
                self.abort(CallError(StatusCode.UNAVAILABLE, text))
                return
        if b"grpc-status" in headers:
            error = status_from(headers)
            if error is not None:
                self._failure = self._failure or error
                self._link.room.notify()
        self._changed.notify()

    def on_data(self, data: bytes, flow_controlled: int) -> None:
        """Take received bytes."""
        self._uncredited += flow_controlled
        self._credit(flow_controlled - len(data))  # padding
        try:
            self._messages.extend(self._reader.feed(data))
        except CallError as error:
            if self._link.server_side:
                self.finish(error.code, error.message)
                self.fail(error)
            else:
                self.abort(error)
        if self._consumer is not None:
            self._feed()
        if self._consumer is None:
            self._changed.notify()

    def on_end(self) -> None:
        """Note that the other side is done."""
        self._remote_ended = True
        if self._reader.unfinished:
            error = CallError(StatusCode.INTERNAL, "the call ended within a message")
            if self._link.server_side:
                self.finish(error.code, error.message)
            self.fail(error)
        elif not self._link.server_side:
            if not self._local_ended:
                self._local_ended = True
                self._reset(h2.errors.ErrorCodes.CANCEL)
            self._drop()
        self._changed.notify()

    def fail(self, error: CallError) -> None:
        """Let whoever handles the call see `error` after the messages already received."""
        self._failure = self._failure or error
        self._drop()
        self._changed.notify()
        self._link.room.notify()

    # details

    def _feed(self) -> None:
        """Hand messages to the consumer until it has enough."""
        while self._messages and self._consumer is not None:
            payload = self._messages.popleft()
            self._credit(len(payload) + PREFIX_BYTES)
            try:
                goes_on = self._consumer(payload)
            except Exception as error:  # the business of the task that consumes
                self._consumer_failure, goes_on = error, False
            if not goes_on:
                self._consumer = None

    def _heard_out(self) -> bool:
        """Return whether no message follows. Raises CallError if the call failed."""
        if self._remote_ended and (self._failure is None or self._heard_all):
            return True
        if self._failure is not None:
            raise CallError(self._failure.code, self._failure.message)
        return False

    @property
    def _over(self) -> bool:
        return self._failure is not None or self._local_ended or self._link.closed is not None

    @property
    def _heard_all(self) -> bool:
        """Whether the other side had its say, whatever happened to the call after that.

        Not at the client: there the status, which comes last, is what counts.
        """
        return self._link.server_side and not self._reader.unfinished

    def _put(self, data: bytes) -> None:
        self._link.conn.send_data(self._id, data)
        self._link.backlog += len(data)
        self._link.flush()

    def _room(self) -> int:
        """Return how many bytes may be sent now without piling up behind a slow write."""
        window = self._window()
        return 0 if self._link.writing else window

    def _window(self) -> int:
        """Return how many bytes the other side would take now in one frame."""
        if self._failure is not None:
            raise CallError(self._failure.code, self._failure.message)
        if self._link.closed is not None:
            raise CallError(StatusCode.UNAVAILABLE, self._link.closed)
        if self._local_ended:
            raise CallError(StatusCode.INTERNAL, "message after the end of the call")
        conn = self._link.conn
        return min(conn.local_flow_control_window(self._id), conn.max_outbound_frame_size)

    def _answer_last(self, headers: Headers) -> None:
        if self._over:
            return
        with _RACE:
            self._link.conn.send_headers(self._id, headers, end_stream=True)
        self._local_ended = True
        if not self._remote_ended:
            self._reset(h2.errors.ErrorCodes.NO_ERROR)
        self._drop()
        self._link.flush()

    def _reset(self, code: h2.errors.ErrorCodes) -> None:
        if self._link.closed is None:
            with _RACE:
                self._link.conn.reset_stream(self._id, code)
            self._link.flush()

    def _begin_answer(self) -> None:
        if self._link.server_side and not self._headers_sent and not self._over:
            self._headers_sent = True
            self._link.conn.send_headers(self._id, response_headers())

    def _credit(self, size: int) -> None:
        """Give window back for `size` consumed bytes."""
        size = min(size, self._uncredited)
        self._uncredited -= size
        if size and self._link.closed is None:
            self._link.credit(self._id, size)

    def _drop(self) -> None:
        self._link.calls.pop(self._id, None)
        if self._failure is not None:
            self._credit(self._uncredited)
