# SPDX-License-Identifier: Apache-2.0
"""A gRPC server on trio: accepts connections, hands calls to handlers, bounds what peers cost."""

from __future__ import annotations

import contextlib
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any

import attrs
import structlog
import trio

from galelb.grpc.call import Call
from galelb.grpc.framing import CallError, StatusCode, parse_timeout
from galelb.grpc.limits import LinkLimits, Share
from galelb.grpc.link import Link
from galelb.grpc.pipes import Pipe, SocketPipe, TlsPipe, take_over
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
_MOST_SHARES = 8192
_MOST_REFUSALS = 1024


@attrs.frozen(kw_only=True)
class ServerLimits:
    """Limits of a server."""

    link: LinkLimits = attrs.field(factory=LinkLimits)
    max_connections: int = 1024
    max_connections_per_address: int = 32


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
        self._connections: Counter[IPAddress] = Counter()
        self._open = 0
        self._idle: dict[Link, None] = {}
        """Links without a call, the oldest first; they make room when all places are taken."""
        self._shares: dict[IPAddress, Share] = {}
        self._refusals: Counter[tuple[IPAddress, str]] = Counter()

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return self._open

    async def serve(
        self,
        listeners: Sequence[trio.SocketListener],
        *,
        task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until cancelled, then tell all peers; closes the listeners."""
        await trio.serve_listeners(self._serve_socket, list(listeners), task_status=task_status)

    async def serve_stream(self, stream: trio.abc.Stream | Pipe, peer: IPAddress) -> None:
        """Serve one connection until it is closed; closes the stream."""
        async with self._place(stream, peer) as admitted:
            if admitted:
                await self._serve_link(stream, peer)

    @contextlib.asynccontextmanager
    async def _place(self, stream: trio.abc.Stream | Pipe, peer: IPAddress) -> AsyncIterator[bool]:
        """Hold one of the places for connections while the body runs; closes what gets none."""
        if not self._admits(peer):
            await _close(stream)
            yield False
            return
        self._connections[peer] += 1
        self._open += 1
        try:
            yield True
        finally:
            self._open -= 1
            self._connections[peer] -= 1
            if not self._connections[peer]:
                del self._connections[peer]

    async def _serve_link(self, stream: trio.abc.Stream | Pipe, peer: IPAddress) -> None:
        async with trio.open_nursery() as handlers:

            def accept(call: Call) -> None:
                self._idle.pop(link, None)
                handlers.start_soon(self._serve_call, call, peer)

            share = self._share(peer)
            link = Link(stream, limits=self.limits.link, accept=accept, share=share)
            self._idle[link] = None
            try:
                await link.run()
            finally:
                self._idle.pop(link, None)
            handlers.cancel_scope.deadline = trio.current_time() + _LAST_WORDS_S
        log.debug("grpc_connection_closed", peer=str(peer), reason=link.closed)

    def refuse(self, peer: IPAddress, reason: str) -> None:
        """Log a refusal: the first, second, fourth..., so that a flood cannot flood the log."""
        if len(self._refusals) >= _MOST_REFUSALS:
            self._refusals.clear()
        self._refusals[peer, reason] += 1
        times = self._refusals[peer, reason]
        if times & (times - 1) == 0:
            log.warning("grpc_refused", peer=str(peer), reason=reason, times=times)

    async def _serve_socket(self, stream: trio.SocketStream) -> None:
        try:
            peer = ip_address(stream.socket.getpeername()[0].partition("%")[0])
        except OSError:  # gone already
            await trio.aclose_forcefully(stream)
            return
        sock = take_over(stream)
        try:
            if self.tls is None:
                await self.serve_stream(SocketPipe(sock), peer)
            else:
                await self._serve_tls(TlsPipe(sock, self.tls), peer)
        except Exception:  # a bug of ours: it must not cost the other nodes their connections
            log.exception("grpc_connection_failed", peer=str(peer))
        finally:
            sock.close()

    async def _serve_tls(self, pipe: TlsPipe, peer: IPAddress) -> None:
        async with self._place(pipe, peer) as admitted:
            if not admitted:
                return
            share = self._share(peer)
            await trio.sleep(share.pause(trio.current_time()))
            share.spend(_HANDSHAKE_COST_S, trio.current_time())
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
        if not call.headers.get(b"content-type", b"").startswith(b"application/grpc"):
            call.refuse(415)
            return
        code, text = await self._outcome(call, peer)
        call.finish(code, text)

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

    def _admits(self, peer: IPAddress) -> bool:
        limits = self.limits
        if self._connections[peer] >= limits.max_connections_per_address:
            self.refuse(peer, "it has too many connections")
            return False
        if self.connections < limits.max_connections or self._make_room():
            return True
        self.refuse(peer, "there are too many connections")
        return False

    def _make_room(self) -> bool:
        """Close the oldest connection without a call; returns whether there was one."""
        for link in self._idle:
            del self._idle[link]
            link.fail("others need its place")
            return True
        return False

    def _share(self, peer: IPAddress) -> Share:
        if peer not in self._shares and len(self._shares) >= _MOST_SHARES:
            now = trio.current_time()
            self._shares = {a: s for a, s in self._shares.items() if not s.idle(now)}
            if len(self._shares) >= _MOST_SHARES:
                self._shares.clear()
        return self._shares.setdefault(peer, Share())


async def _close(stream: trio.abc.Stream | Pipe) -> None:
    if isinstance(stream, trio.abc.Stream):
        await trio.aclose_forcefully(stream)
    else:
        await stream.aclose()


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
