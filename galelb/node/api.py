# SPDX-License-Identifier: Apache-2.0
"""The agent's own API: how the node stands, and an operator's stop and start."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Awaitable, Callable
from functools import partial

import structlog
import trio

from galelb.api.auth import AllowAll, Authoriser, BearerToken, load_or_create_token_file
from galelb.api.listen import listen_tcp, listen_unix
from galelb.config.node import NodeConfig
from galelb.errors import ApiError
from galelb.node.agent import NodeAgent
from galelb.node.status import status_json
from galelb.node.web import Answer, Request, WebServer, error

__all__ = ["NodeApi"]

log = structlog.get_logger(__name__)

_RIVAL = "a running agent answers there; stop it, or set another [node] state_file or [api] socket"
_PORT_KEY = "[api] port"


class NodeApi:
    """Component: listens where `[api]` says; over the unix socket everything is allowed.

    Over TCP, changes need the token, and reading needs it unless the address is a loopback one.
    """

    def __init__(self, agent: NodeAgent, config: NodeConfig) -> None:
        self._agent = agent
        self._config = config
        self._fronts: list[tuple[socket.socket, WebServer]] = []
        self._stack = contextlib.ExitStack()

    def listen(self) -> None:
        """Open the sockets; `run` closes them. Blocks on the disk.

        Without an [api] section it is no error that nothing can be opened: an agent that is no
        root, or one of several on a machine, has nothing to lose but this API.

        Raises:
            ApiError: they cannot be opened, or the token's file is of no use.
        """
        try:
            self._open()
        except ApiError as problem:
            self._stack.close()
            self._fronts.clear()
            if "api" in self._config.model_fields_set:
                raise
            log.warning("api_unavailable", reason=str(problem))

    def _open(self) -> None:
        path, api = self._config.api_socket, self._config.api
        local = listen_unix(path, rival=_RIVAL, group=api.socket_group)
        self._stack.enter_context(local)
        self._stack.callback(_unlink_own, path, path.stat().st_ino)
        self._front(local, AllowAll(), AllowAll())
        if api.port is not None:
            token = BearerToken(load_or_create_token_file(self._config.api_token_file))
            remote = listen_tcp(api.address, api.port, key=_PORT_KEY)
            self._stack.enter_context(remote)
            self._front(remote, AllowAll() if api.address.is_loopback else token, token)
        log.info("api_listening", socket=str(path), port=api.port)

    def _front(self, sock: socket.socket, reads: Authoriser, changes: Authoriser) -> None:
        handler = partial(self._handle, reads, changes)
        self._fronts.append((sock, WebServer(handler)))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        with self._stack:
            async with trio.open_nursery() as nursery:
                for sock, server in self._fronts:
                    listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
                    nursery.start_soon(trio.serve_listeners, server.handle, [listener])
                task_status.started()
                await trio.sleep_forever()

    async def _handle(self, reads: Authoriser, changes: Authoriser, request: Request) -> Answer:
        # Without /v1 they are those of the original galeLB.
        route = _ROUTES.get(request.path.removeprefix("/v1"))
        if route is None:
            return error(404, "not_found", f"nothing is at {request.path}")
        methods, do = route
        if request.method not in methods:
            allow = ", ".join(methods)
            text = f"{request.method} does not work here; allowed: {allow}"
            return error(405, "method_not_allowed", text, ("allow", allow))
        if request.query:
            return error(400, "unknown_parameter", "there are no parameters here")
        judge = reads if "GET" in methods else changes
        if not judge.allows(request.authorization):
            text = f"'Authorization: Bearer TOKEN' is needed, with that of {self._token_file()}"
            return error(401, "unauthorized", text, ("www-authenticate", "Bearer"))
        await do(self._agent)
        return Answer(200, status_json(self._agent))

    def _token_file(self) -> str:
        return str(self._config.api_token_file)


async def _look(_agent: NodeAgent) -> None:
    await trio.lowlevel.checkpoint()


_Do = Callable[[NodeAgent], Awaitable[None]]
_ROUTES: dict[str, tuple[tuple[str, ...], _Do]] = {
    "/status": (("GET", "HEAD"), _look),
    "/start": (("POST",), NodeAgent.operator_start),
    "/stop": (("POST",), NodeAgent.operator_stop),
}


def _unlink_own(path: os.PathLike[str], inode: int) -> None:
    """Remove our socket file, unless another agent has put its own there."""
    with contextlib.suppress(FileNotFoundError):
        if os.lstat(path).st_ino == inode:
            os.unlink(path)  # noqa: PTH108 - a path-like
