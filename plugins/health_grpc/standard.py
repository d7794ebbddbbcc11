# SPDX-License-Identifier: Apache-2.0
"""The standard health protocol (grpc.health.v1): the balancer says whether it serves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import trio
from google.protobuf.message import DecodeError

from galelb.grpc.framing import CallError, StatusCode
from galelb.grpc.health_v1_pb2 import (
    HealthCheckRequest,
    HealthCheckResponse,
    HealthListRequest,
    HealthListResponse,
)
from galelb.grpc.server import Handler, unary

if TYPE_CHECKING:
    from galelb.grpc.call import Call
    from galelb.model import IPAddress
    from galelb.sources import BalancerContext

__all__ = ["CHECK", "LIST", "WATCH", "StandardHealth"]

CHECK = "/grpc.health.v1.Health/Check"
LIST = "/grpc.health.v1.Health/List"
WATCH = "/grpc.health.v1.Health/Watch"

_Status = HealthCheckResponse.ServingStatus
_MOST_LISTED = 1000
"""Services in one answer to List; the protocol wants RESOURCE_EXHAUSTED for more."""


class StandardHealth:
    """Answers for the balancer as a whole (service "") and for each of its services by name."""

    def __init__(self, context: BalancerContext) -> None:
        self._context = context

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by path."""
        return {CHECK: unary(self._check), LIST: unary(self._list), WATCH: self._watch}

    def _status(self, service: str) -> HealthCheckResponse.ServingStatus:
        good = self._context.serving().get(service)
        return _Status.SERVICE_UNKNOWN if good is None else _word(good)

    def _check(self, request: bytes, peer: IPAddress) -> bytes:
        del peer
        service = _service(request)
        status = self._status(service)
        if status == _Status.SERVICE_UNKNOWN:
            raise CallError(StatusCode.NOT_FOUND, f"no service {service[:63]!r}")
        return _response(status)

    def _list(self, request: bytes, peer: IPAddress) -> bytes:
        del peer
        try:
            HealthListRequest.FromString(request)
        except DecodeError:
            text = "the message is not a HealthListRequest"
            raise CallError(StatusCode.INVALID_ARGUMENT, text) from None
        services = self._context.serving()
        if len(services) > _MOST_LISTED:
            text = f"{len(services)} services are too many for one answer: use Check"
            raise CallError(StatusCode.RESOURCE_EXHAUSTED, text)
        statuses = {name: HealthCheckResponse(status=_word(on)) for name, on in services.items()}
        return bytes(HealthListResponse(statuses=statuses).SerializeToString())

    async def _watch(self, call: Call, peer: IPAddress) -> None:
        """Send the status at once and after each change; a slow reader gets the newest only."""
        del peer
        request = await call.receive()
        if request is None:
            raise CallError(StatusCode.INVALID_ARGUMENT, "the call has no request message")
        service = _service(request)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell, call, service)
            await call.wait_over()
            nursery.cancel_scope.cancel()

    async def _tell(self, call: Call, service: str) -> None:
        told = None
        while True:
            status = self._status(service)
            if status == told:
                await self._context.changed.wait()
                continue
            told = status
            try:
                await call.send(_response(status))
            except CallError:
                return


def _service(request: bytes) -> str:
    try:
        return str(HealthCheckRequest.FromString(request).service)
    except DecodeError:
        text = "the message is not a HealthCheckRequest"
        raise CallError(StatusCode.INVALID_ARGUMENT, text) from None


def _word(good: bool) -> HealthCheckResponse.ServingStatus:
    return _Status.SERVING if good else _Status.NOT_SERVING


def _response(status: HealthCheckResponse.ServingStatus) -> bytes:
    return bytes(HealthCheckResponse(status=status).SerializeToString())
