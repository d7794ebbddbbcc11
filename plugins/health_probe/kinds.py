# SPDX-License-Identifier: Apache-2.0
"""What is asked over a connection to a node: nothing, an HTTP status, or grpc.health.v1."""

from __future__ import annotations

import re

import trio
from galelb_plugins.health_probe.options import Probe
from google.protobuf.message import DecodeError

from galelb.grpc.client import Channel
from galelb.grpc.framing import CallError, StatusCode
from galelb.grpc.health_v1_pb2 import HealthCheckRequest, HealthCheckResponse

__all__ = ["CheckFailedError", "ask"]

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])[ \r]")
_MOST_HEAD = 16 * 1024
_CHECK = "/grpc.health.v1.Health/Check"


class CheckFailedError(Exception):
    """The node answered, but not well; the text says how."""


async def ask(probe: Probe, stream: trio.abc.Stream, authority: str) -> None:
    """Ask over an open connection; `authority` is what is asked, as "address:port".

    Raises:
        CheckFailedError: the answer is not good.
        trio.BrokenResourceError: the connection broke.
    """
    if probe.type == "http":
        await _ask_http(probe, stream, probe.host or authority)
    elif probe.type == "grpc":
        await _ask_grpc(probe, stream, authority)


async def _ask_http(probe: Probe, stream: trio.abc.Stream, host: str) -> None:
    request = (
        f"GET {probe.path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: galelb-probe\r\n"
        "Accept: */*\r\nConnection: close\r\n\r\n"
    )
    await stream.send_all(request.encode("ascii"))
    status = await _http_status(stream)
    if status not in probe.expect:
        raise CheckFailedError(f"HTTP status {status}")


async def _http_status(stream: trio.abc.Stream) -> int:
    """Return the status of the final answer; the body is nobody's business."""
    head = b""
    while True:
        while b"\r\n\r\n" not in head:
            data = await stream.receive_some()
            head += bytes(data)
            if not data or len(head) > _MOST_HEAD:
                break
        match = _STATUS_LINE.match(head)
        if match is None:
            raise CheckFailedError("no HTTP answer" if head else "it closed without an answer")
        status = int(match[1])
        _, end, head = head.partition(b"\r\n\r\n")
        if status >= 200 or not end:
            return status


async def _ask_grpc(probe: Probe, stream: trio.abc.Stream, authority: str) -> None:
    request = HealthCheckRequest(service=probe.grpc_service).SerializeToString()
    outcome: bytes | CallError
    async with trio.open_nursery() as nursery:
        channel = Channel(stream, authority)
        await channel.start(nursery)
        try:
            outcome = await channel.unary(_CHECK, request)
        except CallError as error:
            outcome = error
        nursery.cancel_scope.cancel()
    if isinstance(outcome, CallError):
        raise CheckFailedError(_call_failure(probe, outcome))
    try:
        answer = HealthCheckResponse.FromString(outcome)
    except DecodeError:
        raise CheckFailedError("the answer is not a HealthCheckResponse") from None
    if answer.status != HealthCheckResponse.SERVING:
        name = HealthCheckResponse.ServingStatus.Name
        known = answer.status in HealthCheckResponse.ServingStatus.values()
        raise CheckFailedError(f"gRPC health {name(answer.status) if known else answer.status}")


def _call_failure(probe: Probe, error: CallError) -> str:
    if error.code is StatusCode.NOT_FOUND:
        return f"gRPC health: the server knows no service {probe.grpc_service!r}"
    return f"gRPC health: {error}"
