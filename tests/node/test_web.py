# SPDX-License-Identifier: Apache-2.0
"""The agent's HTTP server in virtual time: what it answers to whom, and what it bounds."""

import json

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from galelb.node.web import MAX_BODY_BYTES, MAX_CONNECTIONS, Answer, WebServer


class Handler:
    """Remembers requests; answers what it is told to, or raises it."""

    def __init__(self):
        self.requests = []
        self.outcome = Answer(200, {"a": 1})

    async def __call__(self, request):
        await trio.lowlevel.checkpoint()
        self.requests.append(request)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@pytest.fixture
def handler():
    return Handler()


@pytest.fixture
def connect(nursery, handler):
    server = WebServer(handler)

    def _connect():
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(server.handle, theirs)
        return ours

    return _connect


async def exchange(stream, data, *, eof=False):
    """Send and read to the end; returns status, head and body."""
    await stream.send_all(data)
    if eof:
        await stream.send_eof()
    answer = b""
    async for part in stream:
        answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), head, body


GET = b"GET /v1/status?a=b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t\r\n\r\n"


async def test_a_request_is_taken_apart_and_answered_as_json(connect, handler, autojump_clock):
    status, head, body = await exchange(connect(), GET)

    assert (200, {"a": 1}) == (status, json.loads(body))
    assert b"content-type: application/json" in head.lower()
    (request,) = handler.requests
    assert ("GET", "/v1/status", "a=b", "Bearer t") == (
        request.method,
        request.path,
        request.query,
        request.authorization,
    )


async def test_head_is_answered_without_a_body(connect, autojump_clock):
    status, head, body = await exchange(connect(), GET.replace(b"GET", b"HEAD"))

    assert (200, b"") == (status, body)
    assert b"content-length: 9" in head.lower()


async def test_a_body_is_read_and_means_nothing(connect, handler, autojump_clock):
    data = b"POST /v1/stop HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
    status, _, _ = await exchange(connect(), data)

    assert (200, ["POST"]) == (status, [request.method for request in handler.requests])


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"nonsense\r\n\r\n", 400, "bad_request"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 20000, 431, "bad_request"),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n"
            + b"z" * (MAX_BODY_BYTES + 1),
            413,
            "bad_request",
        ),
        (b"GET / HTTP/1.1\r\nHost: x\r\n", 408, "timeout"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe", 408, "timeout"),
    ],
    ids=["words", "tls", "no-host", "large-head", "large-body", "half-a-head", "half-a-body"],
)
async def test_what_is_no_request_is_refused(connect, handler, autojump_clock, data, status, code):
    found, _, body = await exchange(connect(), data)

    assert (status, code) == (found, json.loads(body)["error"]["code"])
    assert [] == handler.requests


async def test_a_client_that_says_nothing_or_leaves_costs_nothing(
    connect, handler, autojump_clock, nursery
):
    for _ in range(3 * MAX_CONNECTIONS):
        stream = connect()
        await stream.aclose()
    await trio.testing.wait_all_tasks_blocked()

    status, _, _ = await exchange(connect(), GET)
    assert (200, 1) == (status, len(handler.requests))


async def test_more_connections_than_allowed_are_closed_and_make_room_in_time(
    connect, autojump_clock
):
    silent = [connect() for _ in range(MAX_CONNECTIONS)]
    await trio.testing.wait_all_tasks_blocked()
    refused = connect()
    assert b"" == await refused.receive_some()

    await trio.sleep(10)
    status, _, _ = await exchange(connect(), GET)
    assert 200 == status
    assert all([b"408" in await stream.receive_some() for stream in silent])


async def test_a_client_that_reads_nothing_is_left(handler, autojump_clock):
    class Stuck(trio.abc.Stream):
        """Has a request, and takes no answer."""

        closed = False
        data = GET

        async def receive_some(self, max_bytes=None):
            await trio.lowlevel.checkpoint()
            data, self.data = self.data, b""
            return data

        async def send_all(self, data):
            await trio.sleep_forever()

        async def wait_send_all_might_not_block(self):
            await trio.sleep_forever()

        async def aclose(self):
            self.closed = True
            await trio.lowlevel.checkpoint()

    stream = Stuck()
    with trio.fail_after(60):
        await WebServer(handler).handle(stream)

    assert stream.closed


async def test_a_bug_of_ours_is_an_answer_and_a_log_entry(connect, handler, autojump_clock):
    handler.outcome = ValueError("secret detail")
    with capture_logs() as logs:
        status, _, body = await exchange(connect(), GET)

    assert 500 == status
    assert b"secret" not in body
    assert ["api_request_failed"] == [entry["event"] for entry in logs]
