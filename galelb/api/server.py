# SPDX-License-Identifier: Apache-2.0
"""Serve the API over TCP and a unix socket, within fixed bounds, until cancelled."""

from __future__ import annotations

import contextlib
import os
import socket
from collections import Counter
from collections.abc import Sequence
from functools import partial
from math import inf
from pathlib import Path

import structlog
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from starlette.types import ASGIApp

from galelb.api.app import create_app
from galelb.api.auth import AllowAll, BearerToken, load_or_create_token
from galelb.api.listen import BACKLOG, SOCKET_FILE, listen_tcp, listen_unix
from galelb.api.streaming import LAST_KEY
from galelb.api.view import BalancerView
from galelb.model import IPAddress

__all__ = ["GRACE_S", "MAX_CONNECTIONS", "MAX_CONNECTION_S", "MAX_PER_PEER", "ApiServer"]

MAX_CONNECTIONS = 64
MAX_PER_PEER = 24
"""Connections of one address; one machine must not shut out all others."""
"""Connections at a time over TCP, and as many over the unix socket; more wait in the backlog."""
MAX_CONNECTION_S = 60.0
"""After this long even a busy connection ends, so that slow clients cannot keep all of them."""
GRACE_S = 0.5
"""How long a request in progress may go on once its connection or the server is to end."""
KEEP_ALIVE_S = 5
READ_S = 5
STALL_S = 10
"""How long a client that lets an answer go on may take no byte of it."""

log = structlog.get_logger()


class ApiServer:
    """Component: the API of one balancer.

    Listens on `port` of each of `addresses` (those of the private interface) and on
    `<directory>/api.sock`. Changes over TCP need the token of `<directory>/api.token`, with
    `token_reads` reads, too.
    """

    def __init__(
        self,
        view: BalancerView,
        *,
        addresses: Sequence[IPAddress],
        port: int,
        directory: Path,
        ifindex: int | None = None,
        token_reads: bool = False,
    ) -> None:
        self._view = view
        self._addresses = tuple(addresses)
        self._port = port
        self._directory = directory
        self._ifindex = ifindex
        self._token_reads = token_reads

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled, then let requests in progress finish for GRACE_S seconds.

        Raises ApiError before it is started: port in use, unusable directory or token.
        """
        local_app = create_app(self._view, AllowAll())
        token = BearerToken(load_or_create_token(self._directory))
        remote_app = create_app(self._view, token, token_reads=self._token_reads)
        path = self._directory / SOCKET_FILE
        with contextlib.ExitStack() as stack:
            remote = [stack.enter_context(self._listen(address)) for address in self._addresses]
            local = stack.enter_context(listen_unix(path))
            stack.callback(_unlink_own, path, path.stat().st_ino)
            fronts = [_Front(local_app, [local]), _Front(remote_app, remote)]
            log.info("api_listening", addresses=[str(a) for a in self._addresses], port=self._port)
            async with trio.open_nursery() as nursery:
                stop = trio.Event()
                for front in fronts:
                    await nursery.start(front.serve, stop)
                task_status.started()
                try:
                    await trio.sleep_forever()
                finally:
                    stop.set()

    def _listen(self, address: IPAddress) -> socket.socket:
        return listen_tcp(address, self._port, self._ifindex)


class _Front:
    """One application behind some listening sockets, with a bound on its connections.

    hypercorn's own `serve` accepts without a bound, and an error in one connection or a client
    that stops reading would end or hold up the whole balancer; so accepting is done here.
    """

    def __init__(self, app: ASGIApp, sockets: Sequence[socket.socket]) -> None:
        self._app = ASGIWrapper(app)  # type: ignore[arg-type]  # two spellings of ASGI types
        self._sockets = sockets
        self._config = _hypercorn_config()
        self._context = WorkerContext(None)
        self._slots = trio.Semaphore(MAX_CONNECTIONS, max_value=MAX_CONNECTIONS)
        self._open: set[_Connection] = set()
        self._peers: Counter[str] = Counter()

    async def serve(self, stop: trio.Event, *, task_status: trio.TaskStatus[None]) -> None:
        """Accept until `stop` is set; shielded, so that stopping can be graceful."""
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as handlers:
                async with trio.open_nursery() as accepting:
                    for sock in self._sockets:
                        accepting.start_soon(self._accept, sock, handlers)
                    task_status.started()
                    await stop.wait()
                    accepting.cancel_scope.cancel()
                await self._context.terminated.set()
                for connection in self._open:
                    connection.ending.set()

    async def _accept(self, sock: socket.socket, handlers: trio.Nursery) -> None:
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
        bounded = [_BoundedListener(listener, self._slots)]
        await trio.serve_listeners(self._handle, bounded, handler_nursery=handlers)

    async def _handle(self, stream: trio.SocketStream) -> None:
        peer = _peer(stream)
        try:
            if peer and self._peers[peer] >= MAX_PER_PEER:
                log.warning("api_connection_refused", peer=peer, most=MAX_PER_PEER)
                return
            self._peers[peer] += 1
            try:
                await self._serve(stream)
            finally:
                self._peers -= Counter([peer])
        finally:
            self._slots.release()
            await trio.aclose_forcefully(stream)

    async def _serve(self, stream: trio.SocketStream) -> None:
        connection = _Connection(stream)
        self._open.add(connection)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(connection.end_in_time, nursery.cancel_scope)
                # TCPServer asks for very little of a stream, and _Connection has all of it.
                server = partial(TCPServer, self._app, self._config, self._context)
                state = ConnectionState({LAST_KEY: connection.last})
                await server(state, connection)  # type: ignore[arg-type]
                nursery.cancel_scope.cancel()
        except Exception:
            # What a client provoked ends its own connection, never the balancer.
            log.warning("api_connection_failed", exc_info=True)
        finally:
            self._open.discard(connection)


def _peer(stream: trio.SocketStream) -> str:
    """Return the address of the other end; nothing for a unix socket, or one that left."""
    try:
        peer = stream.socket.getpeername()
    except OSError:
        return ""
    return str(peer[0]) if isinstance(peer, tuple) else ""


class _BoundedListener(trio.abc.Listener[trio.SocketStream]):
    """Accepts only when a slot is free; whoever gets the stream releases the slot."""

    def __init__(self, listener: trio.SocketListener, slots: trio.Semaphore) -> None:
        self._listener = listener
        self._slots = slots

    async def accept(self) -> trio.SocketStream:
        await self._slots.acquire()
        try:
            return await self._listener.accept()
        except BaseException:
            self._slots.release()
            raise

    async def aclose(self) -> None:
        await self._listener.aclose()


class _Connection:
    """A stream that is sure to end."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self.socket = stream.socket
        self.send_eof = stream.send_eof
        self.ending = trio.Event()
        self._life = trio.CancelScope()
        self._reading = trio.CancelScope()
        self._lasts = False

    def last(self) -> None:
        """Let a request go on for longer, as long as the client takes what is sent."""
        self._lasts = True
        self._life.deadline = self._reading.deadline = inf

    async def send_all(self, data: bytes) -> None:
        with trio.move_on_after(STALL_S if self._lasts else inf) as waiting:
            await self._stream.send_all(data)
        if waiting.cancelled_caught:
            await trio.aclose_forcefully(self._stream)
            raise trio.BrokenResourceError

    async def receive_some(self, max_bytes: int) -> bytes:
        data = b""
        deadline = inf if self._lasts else trio.current_time() + READ_S
        try:
            with trio.CancelScope(deadline=deadline) as self._reading:
                data = bytes(await self._stream.receive_some(max_bytes))
            if self._reading.cancelled_caught:
                raise trio.TooSlowError
        finally:
            if not data:
                # hypercorn would keep the connection of a client that left for KEEP_ALIVE_S.
                self.ending.set()
        return data

    async def aclose(self) -> None:
        self.ending.set()
        await self._stream.aclose()

    async def end_in_time(self, scope: trio.CancelScope) -> None:
        self._life.deadline = inf if self._lasts else trio.current_time() + MAX_CONNECTION_S
        with self._life:
            await self.ending.wait()
        await trio.sleep(GRACE_S)
        # Closing first: hypercorn shields its sending, and only this wakes it.
        await trio.aclose_forcefully(self._stream)
        scope.cancel()


def _hypercorn_config() -> Config:
    config = Config()
    config.accesslog = config.errorlog = None
    config.backlog = BACKLOG
    config.include_server_header = False
    config.keep_alive_timeout = KEEP_ALIVE_S
    config.read_timeout = None  # _Connection has its own, which a capture lifts
    config.h2_max_concurrent_streams = 8
    config.h11_max_incomplete_size = 16 * 1024
    config.h2_max_header_list_size = 16 * 1024
    config.websocket_max_message_size = 1024
    return config


def _unlink_own(path: Path, inode: int) -> None:
    """Remove our socket file, unless a successor has already put its own there."""
    with contextlib.suppress(FileNotFoundError):
        if os.lstat(path).st_ino == inode:
            path.unlink()
