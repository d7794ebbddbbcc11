# SPDX-License-Identifier: Apache-2.0
"""A gRPC server on trio: accepts connections, hands calls to handlers, bounds what peers cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any

import attrs
import structlog
import trio

from galelb.grpc.call import Call
from galelb.grpc.framing import CallError, StatusCode, parse_timeout
from galelb.grpc.limits import LinkLimits
from galelb.grpc.link import Link
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
        self._handlers = dict(handlers)
        self._limits = limits or ServerLimits()
        self._connections: Counter[IPAddress] = Counter()
        self._refused = 0

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return self._connections.total()

    async def serve(
        self,
        listeners: Sequence[trio.SocketListener],
        *,
        task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until cancelled, then tell all peers; closes the listeners."""
        await trio.serve_listeners(self._serve_socket, list(listeners), task_status=task_status)

    async def serve_stream(self, stream: trio.abc.Stream, peer: IPAddress) -> None:
        """Serve one connection until it is closed; closes the stream."""
        if not self._admits(peer):
            await trio.aclose_forcefully(stream)
            return
        self._connections[peer] += 1
        try:
            async with trio.open_nursery() as handlers:

                def accept(call: Call) -> None:
                    handlers.start_soon(self._serve_call, call, peer)

                link = Link(stream, limits=self._limits.link, accept=accept)
                await link.run()
                handlers.cancel_scope.deadline = trio.current_time() + _LAST_WORDS_S
            log.debug("grpc_connection_closed", peer=str(peer), reason=link.closed)
        finally:
            self._connections[peer] -= 1
            if not self._connections[peer]:
                del self._connections[peer]

    async def _serve_socket(self, stream: trio.SocketStream) -> None:
        try:
            peer = ip_address(stream.socket.getpeername()[0].partition("%")[0])
        except OSError:  # gone already
            await trio.aclose_forcefully(stream)
            return
        try:
            await self.serve_stream(stream, peer)
        except Exception:  # a bug of ours: it must not cost the other nodes their connections
            log.exception("grpc_connection_failed", peer=str(peer))

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
        outcome = (StatusCode.OK, "")
        async with trio.open_nursery() as nursery:
            if timeout is not None:
                nursery.start_soon(_expire, call, timeout)
            outcome = await _handle(handler, call, peer)
            nursery.cancel_scope.cancel()
        return outcome

    def _admits(self, peer: IPAddress) -> bool:
        limits = self._limits
        if (
            self.connections < limits.max_connections
            and self._connections[peer] < limits.max_connections_per_address
        ):
            return True
        self._refused += 1
        if self._refused & (self._refused - 1) == 0:  # 1, 2, 4, 8...: a flood cannot flood the log
            log.warning("grpc_connections_refused", peer=str(peer), refused=self._refused)
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
