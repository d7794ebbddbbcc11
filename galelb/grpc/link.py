# SPDX-License-Identifier: Apache-2.0
"""One HTTP/2 connection that carries gRPC calls: h2 between a trio stream and `Call` objects."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import trio

from galelb.grpc.call import Call
from galelb.grpc.framing import CallError, Headers, StatusCode, header_dict
from galelb.grpc.limits import Budget, LinkLimits, Share
from galelb.grpc.pipes import Pipe, StreamPipe
from galelb.grpc.signal import Signal

__all__ = ["Link"]

_RECEIVE_BYTES = 4 * 1024
"""At a time: what one link sends is worked on in small pieces, between those of the others."""
_CREDIT_BYTES = 16 * 1024
"""Consumed bytes of all calls together, from which on window is given back."""
_READS_WHILE_WRITING = 8
"""How many reads may go on while a write is stuck: what they make us answer piles up."""
_CALL_COST_S = 0.0002
"""What the task of a new call costs, which is not measured."""
_GOODBYE_S = 0.5
_PING = b"galelb\0\0"
_CONTROLS = (
    h2.events.PingReceived,
    h2.events.PriorityUpdated,
    h2.events.RemoteSettingsChanged,
    h2.events.UnknownFrameReceived,
)


class Link:
    """A connection. `run` works until either side closes it and closes the stream.

    A broken, silent or greedy other side ends only its own link: calls then fail with
    UNAVAILABLE and `closed` says why. When `run` is cancelled it says goodbye first (trailers
    UNAVAILABLE, GOAWAY), within half a second.
    """

    def __init__(
        self,
        stream: trio.abc.Stream | Pipe,
        *,
        limits: LinkLimits,
        accept: Callable[[Call], None] | None = None,
        share: Share | None = None,
    ) -> None:
        """Serve with `accept`, which is handed each new call and must not block; else a client.

        `share` bounds the time that is spent on what the other side sends.
        """
        self.limits = limits
        self.server_side = accept is not None
        self.conn = _connection(limits, client_side=accept is None)
        self.calls: dict[int, Call] = {}
        self.closed: str | None = None
        """Why the link is closed, None while it is open."""
        self.writing = False
        self.backlog = 0
        """Bytes of messages that wait for the write that goes on."""
        self.room = Signal()
        """Notified when more may be sent."""
        self._accept = accept
        self._share = share
        self._pipe: Pipe = StreamPipe(stream) if isinstance(stream, trio.abc.Stream) else stream
        self._scope = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        self._mute = False
        """Whether nothing can be sent any more; reading still tells why, if anything does."""
        self._corked = False
        """Whether what is to be sent is gathered until all that was received is handled."""
        self._owed: dict[int, int] = {}
        """Bytes by call that were consumed and for which no window was given back."""
        self._owed_bytes = 0
        self._greeted = False
        self._heard_at = trio.current_time()
        self._used_at = trio.current_time()
        self._openings = Budget(limits.calls_per_s)
        self._resets = Budget(limits.resets_per_s)
        self._controls = Budget(limits.controls_per_s)

    # for users of the link

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Carry calls until the link is closed, then close the stream."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._keep_alive)
                    self._nursery = nursery
                    try:
                        self._begin()
                        task_status.started()
                        await self._read()
                    finally:  # what comes up from now on is for the goodbye
                        self._nursery = None
        finally:
            await self._say_goodbye()
            self.fail("closed here")
            await self._pipe.aclose()

    def open_call(self, headers: Headers) -> Call:
        """Begin a call (client).

        Raises:
            CallError: UNAVAILABLE, the link is closed or has too many calls.
        """
        if self.closed is not None:
            raise CallError(StatusCode.UNAVAILABLE, self.closed)
        try:
            stream_id = self.conn.get_next_available_stream_id()
            self.conn.send_headers(stream_id, headers)
        except h2.exceptions.ProtocolError as error:
            raise CallError(StatusCode.UNAVAILABLE, f"cannot begin a call: {error}") from None
        call = Call(self, stream_id, header_dict(headers))
        self.calls[stream_id] = call
        self.flush()
        return call

    def flush(self) -> None:
        """Send what the connection holds: at once, what is left by a task of its own."""
        if self.writing or self._corked:
            return
        if self._nursery is None:
            if self.closed is not None:
                self._scope.cancel()
            return
        data = b"" if self._mute else self.conn.data_to_send()
        self.backlog = 0
        if data and not self._write_now(data):
            self.writing = True
            self._nursery.start_soon(self._write)
        elif self.closed is not None:
            self._scope.cancel()

    def credit(self, stream_id: int, size: int) -> None:
        """Give window back for consumed bytes of a call; not for each message on its own."""
        self._owed[stream_id] = self._owed.get(stream_id, 0) + size
        self._owed_bytes += size
        if self._owed_bytes < _CREDIT_BYTES or self.closed is not None:
            return
        for owner, owed in self._owed.items():
            self.conn.acknowledge_received_data(owed, owner)
        self._owed.clear()
        self._owed_bytes = 0
        self.flush()

    def close(self, reason: str) -> None:
        """Close after sending what is left; calls fail with `reason`."""
        if self.closed is not None:
            return
        self.closed = reason
        for call in list(self.calls.values()):
            call.fail(CallError(StatusCode.UNAVAILABLE, reason))
        self.room.notify()
        self.flush()

    def fail(self, reason: str) -> None:
        """Close at once."""
        self.close(reason)
        self._scope.cancel()

    # tasks

    def _begin(self) -> None:
        self.conn.initiate_connection()
        more = self.limits.connection_window - self.conn.inbound_flow_control_window
        if more > 0:
            self.conn.increment_flow_control_window(more)
        self.flush()

    async def _read(self) -> None:
        reads = 0
        while self.closed is None:
            reads = reads + 1 if self.writing else 0
            while self.writing and reads > _READS_WHILE_WRITING:
                await self.room.wait()
            try:
                data = await self._pipe.receive_some(_RECEIVE_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                self.fail(_broken(error))
                return
            if not data:
                self.fail(self._hung_up())
                return
            if self._share is not None and self._share.overdrawn(trio.current_time()):
                await trio.sleep(self._share.pause(trio.current_time()))
            self._heard_at = trio.current_time()
            self._take(data)

    def _take(self, data: bytes) -> None:
        """Handle what was received, then send all that came of it together."""
        began = time.thread_time() if self._share is not None else 0.0
        self._corked = True
        try:
            for event in self.conn.receive_data(data):
                if self.closed is None:
                    self._dispatch(event)
        except h2.exceptions.ProtocolError as error:
            self.close(f"the other side broke HTTP/2: {error}"[:200])
        finally:
            self._corked = False
        self.flush()
        if self._share is not None:
            self._share.spend(time.thread_time() - began, trio.current_time())

    def _write_now(self, data: bytes) -> bool:
        """Return whether all has left."""
        try:
            return self._pipe.write(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._mute = True
            return True

    async def _write(self) -> None:
        """Send what did not leave at once, and what comes up meanwhile."""
        while True:
            try:
                with trio.fail_after(self.limits.write_timeout):
                    await self._pipe.drain()
            except trio.TooSlowError:
                self.fail("the other side does not read")
                return
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._mute = True
                break
            data = self.conn.data_to_send()
            self.backlog = 0
            if not data or self._write_now(data):
                break
        self.writing = False
        self.room.notify()
        self.flush()

    def _hung_up(self) -> str:
        text = "closed by the other side"
        return text if self._greeted else f"{text} before HTTP/2 began; does it want TLS?"

    async def _keep_alive(self) -> None:
        limits = self.limits
        await trio.sleep(limits.handshake_timeout)
        if not self._greeted:
            self.fail("no HTTP/2 settings in time")
            return
        while self.closed is None:
            await trio.sleep(limits.keepalive_interval)
            now = trio.current_time()
            if self.calls:
                self._used_at = now
            elif self.server_side and self._used_at + limits.idle_timeout <= now:
                self._end_connection(h2.errors.ErrorCodes.NO_ERROR, "idle")
            if self.closed is None and self._heard_at + limits.keepalive_interval <= now:
                await self._ping()

    async def _ping(self) -> None:
        heard_at = self._heard_at
        self.conn.ping(_PING)
        self.flush()
        await trio.sleep(self.limits.keepalive_timeout)
        if self._heard_at == heard_at:
            self.fail("no answer to PING")

    async def _say_goodbye(self) -> None:
        if self.closed is not None:
            return
        for call in list(self.calls.values()):
            if self.server_side:
                call.finish(StatusCode.UNAVAILABLE, "shutting down")
            else:
                call.end()
        self._end_connection(h2.errors.ErrorCodes.NO_ERROR, "shutting down")
        if not self.writing and not self._mute:  # else a frame was cut off
            with trio.move_on_after(_GOODBYE_S, shield=True):
                try:
                    if not self._pipe.write(self.conn.data_to_send()):
                        await self._pipe.drain()
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return

    # events

    def _dispatch(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived(stream_id=int(stream_id), headers=headers):
                self._on_request(stream_id, header_dict(headers or ()))
            case h2.events.DataReceived():
                self._on_data(event)
            case h2.events.ResponseReceived(stream_id=int(stream_id), headers=headers) if (
                stream_id in self.calls
            ):
                self.calls[stream_id].on_headers(header_dict(headers or ()))
            case h2.events.TrailersReceived(stream_id=int(stream_id), headers=headers) if (
                stream_id in self.calls
            ):
                self.calls[stream_id].on_headers(header_dict(headers or ()))
            case h2.events.StreamEnded(stream_id=int(stream_id)) if stream_id in self.calls:
                self.calls[stream_id].on_end()
            case h2.events.StreamReset():
                self._on_reset(event)
            case h2.events.ConnectionTerminated():
                self.close("the other side said goodbye")
            case h2.events.WindowUpdated():
                self.room.notify()
            case _:
                self._on_other(event)

    def _on_request(self, stream_id: int, headers: dict[bytes, bytes]) -> None:
        call = Call(self, stream_id, headers)
        self.calls[stream_id] = call
        self._used_at = trio.current_time()
        if self._share is not None:
            self._share.spend(_CALL_COST_S, self._used_at)
        if self._spend(self._openings, "opens too many calls") and self._accept is not None:
            self._accept(call)

    def _on_data(self, event: h2.events.DataReceived) -> None:
        size = event.flow_controlled_length or 0
        call = self.calls.get(event.stream_id or 0)
        if not event.data and not self._spend(self._controls, "sends too many empty frames"):
            return
        if call is not None:
            call.on_data(bytes(event.data or b""), size)
        elif size and event.stream_id:
            self.credit(event.stream_id, size)

    def _on_reset(self, event: h2.events.StreamReset) -> None:
        call = self.calls.get(event.stream_id or 0)
        if event.remote_reset and not self._spend(self._resets, "resets too many calls"):
            return
        if call is not None:
            call.fail(CallError(StatusCode.CANCELLED, "reset by the other side"))

    def _on_other(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RemoteSettingsChanged):
            self._greeted = True
            self.room.notify()
        if isinstance(event, _CONTROLS):
            self._spend(self._controls, "sends too many control frames")

    def _spend(self, budget: Budget, offence: str) -> bool:
        if budget.spend(trio.current_time()):
            return True
        self._end_connection(h2.errors.ErrorCodes.ENHANCE_YOUR_CALM, f"the other side {offence}")
        return False

    def _end_connection(self, code: h2.errors.ErrorCodes, reason: str) -> None:
        if self.closed is None:
            self.conn.close_connection(code)
            self.close(reason)


def _broken(error: Exception) -> str:
    """Return why a connection broke; TLS knows it in words."""
    told = isinstance(error.__cause__, ssl.SSLError)
    return f"connection lost: {error}" if told else "connection lost"


def _connection(limits: LinkLimits, *, client_side: bool) -> h2.connection.H2Connection:
    config = h2.config.H2Configuration(client_side=client_side, header_encoding=None)
    conn = h2.connection.H2Connection(config)
    codes = h2.settings.SettingCodes
    values = {
        codes.MAX_CONCURRENT_STREAMS: limits.max_streams,
        codes.INITIAL_WINDOW_SIZE: limits.stream_window,
        codes.MAX_HEADER_LIST_SIZE: 16 * 1024,
    }
    if client_side:
        values[codes.ENABLE_PUSH] = 0
    conn.local_settings = h2.settings.Settings(client=client_side, initial_values=values)
    conn.decoder.max_header_list_size = 16 * 1024
    return conn
