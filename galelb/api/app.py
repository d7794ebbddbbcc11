# SPDX-License-Identifier: Apache-2.0
"""The API's resources under /v1/, as a Starlette application."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from galelb.api.auth import TOKEN_FILE, Authoriser
from galelb.api.exposition import CONTENT_TYPE, exposition
from galelb.api.guard import Guard, error_response
from galelb.api.requests import (
    MAX_OFFSET,
    MAX_PAGE,
    RequestError,
    address_or_none,
    find_node,
    integer,
    json_body,
    query,
    weight_of,
)
from galelb.api.serialise import (
    flows_json,
    node_json,
    peer_json,
    plugin_json,
    record_json,
    service_json,
    status_json,
)
from galelb.api.streaming import CAPTURE_PARAMETERS, CaptureResponse, capture_wish
from galelb.api.view import BalancerView, UnknownNodeError, UnknownServiceError
from galelb.errors import BpfError, GaleError, NetlinkError
from galelb.model import IPAddress

__all__ = ["create_app"]

log = structlog.get_logger()

Handler = Callable[[Request], Awaitable[Response]]


def create_app(view: BalancerView, authoriser: Authoriser) -> ASGIApp:
    """Return the application; `authoriser` decides about requests that change something."""
    api = _Api(view, authoriser)
    app = Starlette(
        routes=api.routes(),
        exception_handlers={
            HTTPException: _http_error,
            GaleError: _gale_error,
            Exception: _internal_error,
        },
    )
    app.router.redirect_slashes = False
    return Guard(app)


class _Api:
    def __init__(self, view: BalancerView, authoriser: Authoriser) -> None:
        self._view = view
        self._authoriser = authoriser

    def routes(self) -> list[Route]:
        reads: dict[str, Handler] = {
            "/v1/status": self.status,
            "/v1/health": self.health,
            "/v1/nodes": self.nodes,
            "/v1/nodes/{node}": self.node,
            "/v1/services": self.services,
            "/v1/flows": self.flows,
            "/v1/peers": self.peers,
            "/v1/plugins": self.plugins,
            "/v1/metrics": self.metrics,
        }
        return [
            *(Route(path, handler, methods=["GET"]) for path, handler in reads.items()),
            Route("/v1/nodes/{node}/drain", self.drain, methods=["POST"]),
            Route("/v1/nodes/{node}/undrain", self.undrain, methods=["POST"]),
            Route("/v1/nodes/{node}/weight", self.weight, methods=["PUT"]),
            Route("/v1/capture", self.capture, methods=["POST"]),
        ]

    async def status(self, request: Request) -> Response:
        query(request)
        return _json(status_json(await self._view.status(), await self._view.ready()))

    async def health(self, request: Request) -> Response:
        query(request)
        reason = await self._view.ready()
        return _json({"ready": not reason, "reason": reason}, 503 if reason else 200)

    async def nodes(self, request: Request) -> Response:
        query(request)
        return _json({"nodes": [node_json(node) for node in await self._view.nodes()]})

    async def node(self, request: Request) -> Response:
        query(request)
        return _json(node_json(await find_node(self._view, request.path_params["node"])))

    async def services(self, request: Request) -> Response:
        query(request)
        return _json({"services": [service_json(s) for s in await self._view.services()]})

    async def flows(self, request: Request) -> Response:
        params = query(request, ("service", "node", "client", "limit", "offset"))
        limit = integer(params, "limit", 100, 1, MAX_PAGE)
        offset = integer(params, "offset", 0, 0, MAX_OFFSET)
        page = await self._view.flows(
            service=await self._service(params.get("service")),
            node=await self._node_filter(params.get("node")),
            client=_client_filter(params.get("client")),
            limit=limit,
            offset=offset,
        )
        return _json(flows_json(page, limit=limit, offset=offset))

    async def peers(self, request: Request) -> Response:
        query(request)
        return _json({"peers": [peer_json(peer) for peer in await self._view.peers()]})

    async def plugins(self, request: Request) -> Response:
        query(request)
        return _json({"plugins": [plugin_json(p) for p in await self._view.plugins()]})

    async def metrics(self, request: Request) -> Response:
        query(request)
        # Thousands of samples take milliseconds that packets' next hops should not wait for.
        page = await trio.to_thread.run_sync(exposition, await self._view.metrics())
        return Response(page, headers={"content-type": CONTENT_TYPE})

    async def drain(self, request: Request) -> Response:
        return await self._set_draining(request, on=True)

    async def undrain(self, request: Request) -> Response:
        return await self._set_draining(request, on=False)

    async def weight(self, request: Request) -> Response:
        self._authorise(request)
        query(request)
        weight = weight_of(await json_body(request, ("weight",)))
        node = await find_node(self._view, request.path_params["node"])
        record = await self._view.set_weight(node.record.node.address, weight)
        log.info("weight_set", node=str(record.node.address), weight=weight)
        return _json(record_json(record))

    async def capture(self, request: Request) -> ASGIApp:
        self._authorise(request)
        params = query(request, CAPTURE_PARAMETERS)
        service = await self._service(params.get("service"))
        node = params.get("node")
        # Programs know nodes by their number, so it must be there.
        found = None if node is None else await find_node(self._view, node)
        address = None if found is None else found.record.node.address
        wish = capture_wish(params, service, address)
        return CaptureResponse(self._view, wish)

    async def _set_draining(self, request: Request, *, on: bool) -> Response:
        self._authorise(request)
        query(request)
        node = await find_node(self._view, request.path_params["node"])
        record = await self._view.drain(node.record.node.address, on=on)
        log.info("drain_set", node=str(record.node.address), on=on)
        return _json(record_json(record))

    def _authorise(self, request: Request) -> None:
        if not self._authoriser.allows(request.headers.get("authorization")):
            raise RequestError(
                401,
                "unauthorized",
                "changes over TCP need 'Authorization: Bearer TOKEN' with the token of "
                f"{TOKEN_FILE} in the balancer's instance directory",
            )

    async def _service(self, name: str | None) -> str | None:
        if name is None:
            return None
        known = [status.service.name for status in await self._view.services()]
        if name not in known:
            raise UnknownServiceError(name, known)
        return name

    async def _node_filter(self, wanted: str | None) -> IPAddress | None:
        if wanted is None:
            return None
        # By address also a node that is gone: its flows may still be there.
        address = address_or_none(wanted)
        return address or (await find_node(self._view, wanted)).record.node.address


def _client_filter(text: str | None) -> IPAddress | None:
    if text is None:
        return None
    address = address_or_none(text)
    if address is None:
        raise RequestError(400, "bad_parameter", f"client must be an IP address, got {text!r}")
    return address


def _json(content: dict[str, Any], status: int = 200) -> Response:
    body = json.dumps(content, allow_nan=False) + "\n"
    return Response(body, status, {"cache-control": "no-store"}, media_type="application/json")


def _path(request: Request) -> str:
    # request.url is built from the Host header, which may be nonsense.
    return str(request.scope["path"])


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        # Starlette lists them in the order of a set.
        allow = ", ".join(sorted(headers["Allow"].split(", ")))
        message = f"{request.method} does not work here; allowed: {allow}"
        return error_response(405, "method_not_allowed", message, {"allow": allow})
    if error.status_code == 404:
        return error_response(404, "not_found", f"nothing is at {_path(request)}", headers)
    return error_response(error.status_code, "bad_request", error.detail, headers)


async def _gale_error(request: Request, error: Exception) -> Response:
    match error:
        case RequestError():
            challenge = {"www-authenticate": "Bearer"} if error.status == 401 else None
            return error_response(error.status, error.code, str(error), challenge)
        case UnknownNodeError():
            return error_response(404, "unknown_node", str(error))
        case UnknownServiceError():
            return error_response(404, "unknown_service", str(error))
        case BpfError() | NetlinkError():
            # Not the client's doing: the kernel refused what we asked.
            log.error("api_request_failed", path=_path(request), exc_info=error)
            return error_response(500, "internal", "internal error")
    return error_response(409, "refused", str(error))


async def _internal_error(request: Request, error: Exception) -> Response:
    # Guard logs it: Starlette raises it again after this answer.
    del request, error
    return error_response(500, "internal", "internal error")
