# SPDX-License-Identifier: Apache-2.0
"""The API's resources under /v1/, as a Starlette application."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Awaitable, Callable, Mapping
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
from galelb.api.limits import (
    DEFAULT_EVENTS,
    DEFAULT_PAGE,
    MAX_EVENTS,
    MAX_OFFSET,
    MAX_PAGE,
    MAX_STREAMS,
)
from galelb.api.openapi import document
from galelb.api.operations import OPERATIONS, Operation
from galelb.api.requests import (
    RequestError,
    address_or_none,
    client_filter,
    cursor_of,
    find_node,
    integer,
    json_body,
    query,
    state_filter,
    weight_of,
)
from galelb.api.serialise import (
    config_json,
    events_json,
    flows_json,
    history_json,
    node_json,
    peers_json,
    plugin_json,
    record_json,
    service_json,
    status_json,
)
from galelb.api.streaming import CaptureResponse, EventsResponse, capture_wish
from galelb.api.view import BalancerView, UnknownNodeError, UnknownServiceError
from galelb.errors import BpfError, GaleError, NetlinkError
from galelb.model import IPAddress

__all__ = ["create_app"]

log = structlog.get_logger()

Params = dict[str, str]
Handler = Callable[[Request, Params], Awaitable[ASGIApp]]


def create_app(view: BalancerView, authoriser: Authoriser, *, token_reads: bool = False) -> ASGIApp:
    """Return the application.

    `authoriser` decides about requests that change something, with `token_reads` about almost
    all others, too.
    """
    api = _Api(view, authoriser, token_reads=token_reads)
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
    """The handlers, each named as its operation."""

    def __init__(self, view: BalancerView, authoriser: Authoriser, *, token_reads: bool) -> None:
        self._view = view
        self._authoriser = authoriser
        self._token_reads = token_reads
        self._streams = trio.CapacityLimiter(MAX_STREAMS)

    def routes(self) -> list[Route]:
        """Return every operation at its path and its other paths."""
        return [
            Route(path, self._endpoint(operation), methods=[operation.method])
            for operation in OPERATIONS
            for path in (operation.path, *operation.aliases)
        ]

    def _endpoint(self, operation: Operation) -> Callable[[Request], Awaitable[ASGIApp]]:
        handler: Handler = getattr(self, operation.name)
        guarded = operation.changes or (self._token_reads and not operation.open)

        async def endpoint(request: Request) -> ASGIApp:
            if guarded:
                self._authorise(request, operation)
            return await handler(request, query(request, operation.query))

        return endpoint

    async def openapi(self, request: Request, params: Params) -> Response:
        del request, params
        version = importlib.metadata.version("galelb")
        return _json(await trio.to_thread.run_sync(document, version))

    async def status(self, request: Request, params: Params) -> Response:
        del request, params
        return _json(status_json(await self._view.status(), await self._view.ready()))

    async def health(self, request: Request, params: Params) -> Response:
        del request, params
        reason = await self._view.ready()
        return _json({"ready": not reason, "reason": reason}, 503 if reason else 200)

    async def nodes(self, request: Request, params: Params) -> Response:
        del request, params
        return _json({"nodes": [node_json(node) for node in await self._view.nodes()]})

    async def node(self, request: Request, params: Params) -> Response:
        del params
        return _json(node_json(await find_node(self._view, request.path_params["node"])))

    async def history(self, request: Request, params: Params) -> Response:
        del params
        wanted = request.path_params["node"]
        address = address_or_none(wanted)
        # Why a node is gone is what its history is asked for most.
        if address is None or not self._view.events.of_node(str(address)):
            address = (await find_node(self._view, wanted)).record.node.address
        return _json(history_json(str(address), self._view.events.of_node(str(address))))

    async def services(self, request: Request, params: Params) -> Response:
        del request, params
        return _json({"services": [service_json(s) for s in await self._view.services()]})

    async def flows(self, request: Request, params: Params) -> Response:
        del request
        limit = integer(params, "limit", DEFAULT_PAGE, 1, MAX_PAGE)
        offset = integer(params, "offset", 0, 0, MAX_OFFSET)
        page = await self._view.flows(
            service=await self._service(params.get("service")),
            node=await self._node_filter(params.get("node")),
            client=client_filter(params),
            state=state_filter(params),
            limit=limit,
            offset=offset,
            after=cursor_of(params),
        )
        return _json(flows_json(page, limit=limit, offset=offset))

    async def peers(self, request: Request, params: Params) -> Response:
        del request, params
        return _json(peers_json(await self._view.group(), await self._view.peers()))

    async def plugins(self, request: Request, params: Params) -> Response:
        del request, params
        return _json({"plugins": [plugin_json(p) for p in await self._view.plugins()]})

    async def config(self, request: Request, params: Params) -> Response:
        del request, params
        return _json(config_json(await self._view.configuration()))

    async def events(self, request: Request, params: Params) -> ASGIApp:
        del params
        last_id = request.headers.get("last-event-id")
        return EventsResponse(self._view, last_id, self._streams)

    async def recent_events(self, request: Request, params: Params) -> Response:
        del request
        limit = integer(params, "limit", DEFAULT_EVENTS, 1, MAX_EVENTS)
        return _json(events_json(self._view.events.last(limit)))

    async def metrics(self, request: Request, params: Params) -> Response:
        del request, params
        # Thousands of samples take milliseconds that packets' next hops should not wait for.
        page = await trio.to_thread.run_sync(exposition, await self._view.metrics())
        return Response(page, headers={"content-type": CONTENT_TYPE})

    async def drain(self, request: Request, params: Params) -> Response:
        del params
        return await self._set_draining(request, on=True)

    async def undrain(self, request: Request, params: Params) -> Response:
        del params
        return await self._set_draining(request, on=False)

    async def weight(self, request: Request, params: Params) -> Response:
        del params
        weight = weight_of(await json_body(request, ("weight",)))
        node = await find_node(self._view, request.path_params["node"])
        record = await self._view.set_weight(node.record.node.address, weight)
        log.info("weight_set", node=str(record.node.address), weight=weight)
        return _json(record_json(record))

    async def capture(self, request: Request, params: Params) -> ASGIApp:
        del request
        service = await self._service(params.get("service"))
        node = params.get("node")
        # Programs know nodes by their number, so it must be there.
        found = None if node is None else await find_node(self._view, node)
        address = None if found is None else found.record.node.address
        wish = capture_wish(params, service, address)
        return CaptureResponse(self._view, wish)

    async def _set_draining(self, request: Request, *, on: bool) -> Response:
        node = await find_node(self._view, request.path_params["node"])
        record = await self._view.drain(node.record.node.address, on=on)
        log.info("drain_set", node=str(record.node.address), on=on)
        return _json(record_json(record))

    def _authorise(self, request: Request, operation: Operation) -> None:
        if not self._authoriser.allows(request.headers.get("authorization")):
            what = "changes" if operation.changes else "reads"
            raise RequestError(
                401,
                "unauthorized",
                f"{what} over TCP need 'Authorization: Bearer TOKEN' with the token of "
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


def _json(content: Mapping[str, Any], status: int = 200) -> Response:
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
