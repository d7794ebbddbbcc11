# SPDX-License-Identifier: Apache-2.0
"""A gRPC server on trio: accepts connections, hands calls to handlers, bounds what peers cost."""

from __future__ import annotations

import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import structlog
import trio

from galelb.grpc.accepting import accept_all, drop
from galelb.grpc.admission import Admission
from galelb.grpc.call import Call
from galelb.grpc.framing import CallError, StatusCode, parse_timeout
from galelb.grpc.limits import ServerLimits
from galelb.grpc.link import Link
from galelb.grpc.pipes import Pipe, SocketPipe, TlsPipe
from galelb.model import IPAddress

__all__ = ["Handler", "Server", "ServerLimits", "unary"]

log = structlog.get_logger(__name__)

Handler = Callable[[Call, IPAddress], Awaitable[None]]
"""Handles one call of the node at this address; returning ends the call with OK.

A CallError that leaves it ends the call with that status. When the connection is lost
`call.receive` raises CallError; only stopping the server cancels the handler.
"""

_LAST_WORDS_S = 1.0
"""How long handlers may run on after their connection is lost."""
_LINGER_S = 1.0
"""For a refused client to read why, before its connection is closed."""
_HANDSHAKE_COST_S = 0.002


def unary(answer: Callable[[bytes, IPAddress], bytes]) -> Handler:
    """Return a handler of a call with one message each way; `answer` must not block."""

    async def handle(call: Call, peer: IPAddress) -> None:
        request = await call.receive()
        if request is None:
            raise CallError(StatusCode.INVALID_ARGUMENT, "the call has no request message")
        await call.send(answer(request, peer))

    return handle


class Server:
    """Serves the calls named in `handlers` by path (`/Service/Method`)."""

    def __init__(self, handlers: Mapping[str, Handler], limits: ServerLimits | None = None) -> None:
        self.limits = limits or ServerLimits()
        self.tls: ssl.SSLContext | None = None
        """For connections from now on; None = without TLS. Holds for sockets only."""
        self._handlers = dict(handlers)
        self._idle: dict[Link, None] = {}
        """Links without a call, the oldest first; they make room when all places are taken."""
        self._calls: Counter[IPAddress] = Counter()
        self._admission = Admission(self.limits, self._make_room)

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return self._admission.count

    async def serve(
        self,
        listeners: Sequence[trio.SocketListener],
        *,
        task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until cancelled, then tell all peers; closes the listeners."""
        async with trio.open_nursery() as nursery:

            def accept(sock: socket.socket, peer: IPAddress) -> None:
                if self._admission.enter(peer, trio.current_time()):
                    nursery.start_soon(self._serve_socket, sock, peer)
                else:
                    drop(sock)

            for listener in listeners:
                nursery.start_soon(accept_all, listener, accept)
            task_status.started()

    async def serve_stream(self, stream: trio.abc.Stream, peer: IPAddress) -> None:
        """Serve one connection until it is closed; closes the stream."""
        if not self._admission.enter(peer, trio.current_time()):
            await trio.aclose_forcefully(stream)
            return
        try:
            await self._serve_link(stream, peer)
        finally:
            self._admission.leave(peer)

    def refuse(self, peer: IPAddress, reason: str) -> None:
        """Log that a peer was turned away; a flood of it does not flood the log."""
        self._admission.refuse(peer, reason)

    async def _serve_link(self, stream: trio.abc.Stream | Pipe, peer: IPAddress) -> None:
        async with trio.open_nursery() as handlers:

            def accept(call: Call) -> None:
                self._idle.pop(link, None)
                if self._calls[peer] < self.limits.max_calls_per_address:
                    handlers.start_soon(self._serve_call, call, peer)
                    self._calls[peer] += 1
                else:
                    call.finish(StatusCode.RESOURCE_EXHAUSTED, "too many calls of this address")

            share = self._admission.share(peer, trio.current_time())
            link = Link(stream, limits=self.limits.link, accept=accept, share=share)
            self._idle[link] = None
            try:
                await link.run()
            finally:
                self._idle.pop(link, None)
            handlers.cancel_scope.deadline = trio.current_time() + _LAST_WORDS_S
        log.debug("grpc_connection_closed", peer=str(peer), reason=link.closed)

    async def _serve_socket(self, sock: socket.socket, peer: IPAddress) -> None:
        try:
            with sock:
                if self.tls is None:
                    await self._serve_link(SocketPipe(sock), peer)
                else:
                    await self._serve_tls(TlsPipe(sock, self.tls), peer)
        except Exception:  # a bug of ours: it must not cost the other nodes their connections
            log.exception("grpc_connection_failed", peer=str(peer))
        finally:
            self._admission.leave(peer)

    async def _serve_tls(self, pipe: TlsPipe, peer: IPAddress) -> None:
        now = trio.current_time()
        self._admission.share(peer, now).spend(_HANDSHAKE_COST_S, now)
        try:
            with trio.fail_after(self.limits.link.handshake_timeout):
                await pipe.handshake()
        except trio.TooSlowError:
            self.refuse(peer, "no TLS handshake in time")
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self.refuse(peer, str(error))
            with trio.move_on_after(_LINGER_S):
                await pipe.linger()
        else:
            await self._serve_link(pipe, peer)

    async def _serve_call(self, call: Call, peer: IPAddress) -> None:
        try:
            if not call.headers.get(b"content-type", b"").startswith(b"application/grpc"):
                call.refuse(415)
                return
            code, text = await self._outcome(call, peer)
            call.finish(code, text)
        finally:
            self._calls[peer] -= 1
            if not self._calls[peer]:
                del self._calls[peer]

    async def _outcome(self, call: Call, peer: IPAddress) -> tuple[StatusCode, str]:
        handler = self._handlers.get(call.path)
        if handler is None:
            return StatusCode.UNIMPLEMENTED, f"no such method: {call.path[:100]}"
        try:
            timeout = parse_timeout(call.headers.get(b"grpc-timeout"))
        except CallError as error:
            return error.code, error.message
        if timeout is None:
            return await _handle(handler, call, peer)
        outcome = (StatusCode.OK, "")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_expire, call, timeout)
            outcome = await _handle(handler, call, peer)
            nursery.cancel_scope.cancel()
        return outcome

    def _make_room(self) -> bool:
        """Close the oldest connection without a call; returns whether there was one."""
        for link in self._idle:
            del self._idle[link]
            link.fail("others need its place")
            return True
        return False


async def _handle(handler: Handler, call: Call, peer: IPAddress) -> tuple[StatusCode, str]:
    try:
        await handler(call, peer)
    except CallError as error:
        return error.code, error.message
    except Exception:
        log.exception("grpc_handler_failed", path=call.path[:100], peer=str(peer))
        return StatusCode.INTERNAL, "the handler failed; the log of the server says more"
    return StatusCode.OK, ""


async def _expire(call: Call, seconds: float) -> None:
    await trio.sleep(seconds)
    expired = CallError(StatusCode.DEADLINE_EXCEEDED, "the caller's time-out is over")
    call.finish(expired.code, expired.message)
    call.fail(expired)
