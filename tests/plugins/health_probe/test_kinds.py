# SPDX-License-Identifier: Apache-2.0
"""What is asked, and which answers are good."""

import pytest
import trio
import trio.testing
from galelb_plugins.health_probe.kinds import CheckFailedError, ask
from galelb_plugins.health_probe.options import HealthProbeOptions, Probe
from pydantic import ValidationError

from galelb.grpc.framing import CallError, StatusCode
from galelb.grpc.health_v1_pb2 import HealthCheckRequest, HealthCheckResponse
from galelb.grpc.server import Server, unary

AUTHORITY = "192.0.2.10:80"
HTTP = {"type": "http"}


async def ask_http(*answer, **options):
    """Return the request that a server saw which then says `answer` and closes."""
    ours, theirs = trio.testing.memory_stream_pair()
    heard = b""

    async def serve():
        nonlocal heard
        while not heard.endswith(b"\r\n\r\n"):
            heard += await theirs.receive_some()
        for part in answer:
            await theirs.send_all(part)
            await trio.testing.wait_all_tasks_blocked()
        await theirs.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        try:
            await ask(Probe(**HTTP, **options), ours, AUTHORITY)
        finally:
            await ours.aclose()
            nursery.cancel_scope.cancel()
    return heard.decode()


async def failure(*answer, **options):
    with pytest.raises(ExceptionGroup) as caught:
        await ask_http(*answer, **options)
    (error,) = caught.value.exceptions
    assert isinstance(error, CheckFailedError)
    return str(error)


class TestHttp:
    async def test_the_request(self):
        request = await ask_http(b"HTTP/1.1 200 OK\r\n\r\n", path="/health?full=1")

        first, *headers = request.split("\r\n")
        assert "GET /health?full=1 HTTP/1.1" == first
        assert {"Host: 192.0.2.10:80", "Connection: close"} <= set(headers)

    async def test_the_host_header_can_be_set(self):
        assert "\r\nHost: www.example\r\n" in await ask_http(
            b"HTTP/1.0 204\r\n\r\n", host="www.example"
        )

    @pytest.mark.parametrize(
        "answer",
        [
            [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"],
            [b"HTTP/1.0 204 No Content\r\n\r\n"],
            [b"HT", b"TP/1.1 2", b"00 OK\r\n", b"\r\n"],
            [b"HTTP/1.1 200 OK\r\nX: y"],  # the status is said, the rest is cut off
            [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"],
            [b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"],
        ],
    )
    async def test_good_answers(self, answer):
        assert "GET / " in await ask_http(*answer)

    @pytest.mark.parametrize(
        ("answer", "reason"),
        [
            (b"HTTP/1.1 503 Unavailable\r\n\r\n", "HTTP status 503"),
            (b"HTTP/1.1 301 Moved\r\nLocation: /\r\n\r\n", "HTTP status 301"),
            (b"HTTP/1.1 100 Continue\r\n\r\n", "it closed without an answer"),
            (b"SSH-2.0-OpenSSH\r\n\r\n", "no HTTP answer"),
            (b"HTTP/1.1 2000 OK\r\n\r\n", "no HTTP answer"),
            (b"", "it closed without an answer"),
            (b"x" * 100_000, "no HTTP answer"),
        ],
    )
    async def test_bad_answers(self, answer, reason):
        assert reason == await failure(answer)

    async def test_expected_statuses_can_be_set(self):
        assert "HTTP status 200" == await failure(b"HTTP/1.1 200 OK\r\n\r\n", expect=(404,))
        await ask_http(b"HTTP/1.1 404 Not Found\r\n\r\n", expect=(404,))


async def ask_grpc(answer, **options):
    """Ask a server that answers with what `answer(service)` returns."""
    ours, theirs = trio.testing.memory_stream_pair()

    def check(request, peer):
        del peer
        status = answer(HealthCheckRequest.FromString(request).service)
        return HealthCheckResponse(status=status).SerializeToString()

    server = Server({"/grpc.health.v1.Health/Check": unary(check)})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve_stream, theirs, "node")
        try:
            await ask(Probe(type="grpc", **options), ours, AUTHORITY)
        except CheckFailedError as error:
            return str(error)
        finally:
            nursery.cancel_scope.cancel()
    return ""


class TestGrpc:
    @pytest.mark.parametrize("service", ["", "shop.Cart"])
    async def test_serving_is_good(self, service):
        asked = []

        assert "" == await ask_grpc(lambda s: asked.append(s) or 1, grpc_service=service)
        assert [service] == asked

    @pytest.mark.parametrize(
        ("status", "reason"),
        [(0, "UNKNOWN"), (2, "NOT_SERVING"), (3, "SERVICE_UNKNOWN"), (77, "77")],
    )
    async def test_everything_else_is_not(self, status, reason):
        assert f"gRPC health {reason}" == await ask_grpc(lambda _: status)

    async def test_an_unknown_service_is_named(self):
        def refuse(service):
            raise CallError(StatusCode.NOT_FOUND, "")

        assert "gRPC health: the server knows no service 'cart'" == await ask_grpc(
            refuse, grpc_service="cart"
        )

    async def test_a_server_without_health_says_so(self):
        ours, theirs = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Server({}).serve_stream, theirs, "node")
            with pytest.raises(CheckFailedError, match="UNIMPLEMENTED"):
                await ask(Probe(type="grpc"), ours, AUTHORITY)
            nursery.cancel_scope.cancel()

    async def test_a_server_that_speaks_something_else(self):
        ours, theirs = trio.testing.memory_stream_pair()

        async def babble():
            await theirs.receive_some()
            await theirs.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await theirs.aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(babble)
            with pytest.raises(CheckFailedError, match="gRPC health: UNAVAILABLE"):
                await ask(Probe(type="grpc"), ours, AUTHORITY)


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"timeout": "2s"}, "must not be longer than interval"),
            ({"path": "/x"}, 'only for type = "http"'),
            ({"type": "grpc", "expect": (200,)}, 'only for type = "http"'),
            ({"type": "http", "grpc_service": "x"}, 'only for type = "grpc"'),
            ({"type": "http", "path": "health"}, 'must begin with "/"'),
            ({"type": "http", "path": "/a\r\nX: y"}, 'must begin with "/"'),
            ({"type": "http", "host": "a\r\nb"}, "must be a host name"),
            ({"type": "http", "expect": ()}, "at least 1"),
            ({"services": ("web", "web")}, "names a service twice"),
            ({"interval": "10ms"}, "100ms"),
            ({"rise": 0}, "greater than or equal to 1"),
        ],
    )
    def test_mistakes_are_explained(self, options, text):
        with pytest.raises(ValidationError, match=text):
            Probe(**options)

    def test_a_time_out_is_as_long_as_the_interval(self):
        assert 0.5 == Probe(interval="500ms").patience

    def test_without_probes_there_is_one(self):
        assert (Probe(),) == HealthProbeOptions().in_use
