# SPDX-License-Identifier: Apache-2.0
"""Server and load generator of the lab, against each other over loopback."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import trio

from galelb.lab import payload
from galelb.lab.http_client import FetchError, HttpConnection, Target
from galelb.lab.http_server import HttpServer, Pace
from galelb.lab.jobs import (
    Downloads,
    Held,
    Job,
    Queries,
    Requests,
    Result,
    jobs_from_json,
    jobs_to_json,
)
from galelb.lab.load import run_jobs
from galelb.lab.udp_server import serve_udp


@asynccontextmanager
async def node(name: str) -> AsyncIterator[Target]:
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(HttpServer(name).serve, [listener])
        yield Target("127.0.0.1", listener.socket.getsockname()[1])
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def closed_port() -> AsyncIterator[Target]:
    with trio.socket.socket() as sock:
        await sock.bind(("127.0.0.1", 0))
        yield Target("127.0.0.1", sock.getsockname()[1])


async def results_of(job: Job, stop: trio.Event | None = None) -> list[Result]:
    results: list[Result] = []
    await run_jobs([job], results.append, stop or trio.Event())
    return [result for result in results if result.kind != "opened"]


async def test_every_request_is_answered_and_verified() -> None:
    async with node("n1") as target:
        results = await results_of(Requests(targets=(target,), fresh=4, kept=2, count=50))

    assert Counter({("n1", None): 50}) == Counter((item.node, item.error) for item in results)


@asynccontextmanager
async def relay(to: Target, source: str) -> AsyncIterator[Target]:
    """Hand connections on from another address, as a balancer that translates addresses does."""

    async def carry(one: trio.SocketStream, other: trio.SocketStream) -> None:
        async for data in one:
            await other.send_all(data)

    async def handle(client: trio.SocketStream) -> None:
        server = await trio.open_tcp_stream(to.address, to.port, local_address=source)
        async with client, server, trio.open_nursery() as both:
            both.start_soon(carry, server, client)
            await carry(client, server)
            both.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, handle, [listener])
        yield Target("127.0.0.1", listener.socket.getsockname()[1])
        nursery.cancel_scope.cancel()


async def test_a_node_tells_whether_it_sees_the_client_itself() -> None:
    async with node("n1") as target, relay(target, "127.0.0.2") as through:
        direct = await results_of(Requests(targets=(target,), fresh=1, kept=1, count=4))
        relayed = await results_of(Requests(targets=(through,), fresh=1, kept=0, count=2))
        loads = await results_of(Downloads(targets=(through,), size=100_000))

    assert [True] * 4 == [result.seen_as_itself for result in direct]
    assert [False] * 3 == [result.seen_as_itself for result in (*relayed, *loads)]
    assert [None] * 3 == [result.error for result in (*relayed, *loads)]


async def test_who_did_not_answer_has_seen_nobody() -> None:
    async with closed_port() as target:
        (result,) = await results_of(Requests(targets=(target,), fresh=1, count=1))

    assert result.seen_as_itself is None


async def test_a_closed_port_is_a_refused_request_each_time() -> None:
    async with closed_port() as target:
        results = await results_of(Requests(targets=(target,), fresh=1, kept=1, count=6))

    assert ["refused"] * 6 == [item.error for item in results]


async def test_a_download_is_identical_or_an_error() -> None:
    size = 3 * payload.BLOCK_SIZE + 17
    async with node("n1") as target:
        (result,) = await results_of(Downloads(targets=(target,), size=size))

    assert (None, size) == (result.error, result.size)


async def test_a_pace_lets_through_so_many_bytes_a_second(autojump_clock: trio.abc.Clock) -> None:
    pace, start = Pace(1000), trio.current_time()
    for _ in range(10):
        await pace.wait(500)

    assert 5.0 == trio.current_time() - start


async def test_a_paced_download_is_identical_too() -> None:
    async with node("n1") as target:
        (result,) = await results_of(Downloads(targets=(target,), size=20_000, rate=200_000))

    assert (None, 20_000) == (result.error, result.size)


async def test_held_connections_survive_and_are_counted_once() -> None:
    job = {"connections": 20, "duration_s": 0.3, "every_s": 0.1}
    async with node("n1") as target:
        results = await results_of(Held(targets=(target,), **job))

    assert Counter({("held", "n1", None): 20}) == Counter(
        (item.kind, item.node, item.error) for item in results
    )
    assert all(item.size >= 32 and 0 < item.stall_s < 10 for item in results)


async def test_a_server_that_ends_breaks_what_is_held() -> None:
    results: list[Result] = []
    async with trio.open_nursery() as nursery, node("n1") as target:
        job = Held(targets=(target,), connections=3, duration_s=60, every_s=0.05)
        nursery.start_soon(run_jobs, [job], results.append, trio.Event())
        connection = await HttpConnection.open(target, 1)
        for _ in range(3):
            await connection.get("/", 1)
            await trio.sleep(0.05)
        await connection.aclose()

    assert {"closed", "reset"} >= {str(item.error) for item in results if item.kind == "held"}
    assert Counter(held=3, opened=1) == Counter(item.kind for item in results)


@asynccontextmanager
async def echo_that(change: Callable[[bytes], Awaitable[bytes]]) -> AsyncIterator[Target]:
    """Change to echo as a node does, then send back what `change` makes of each message."""

    async def handle(stream: trio.SocketStream) -> None:
        await stream.receive_some(4096)
        await stream.send_all(b"HTTP/1.1 101 Switching\r\nx-node: n1\r\nupgrade: echo\r\n\r\n")
        async for message in stream:
            await stream.send_all(await change(message))

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, handle, [listener])
        yield Target("127.0.0.1", listener.socket.getsockname()[1])
        nursery.cancel_scope.cancel()


async def test_what_comes_back_late_is_a_stall() -> None:
    times = iter([0.3])

    async def late(message: bytes) -> bytes:
        await trio.sleep(next(times, 0.0))
        return message

    async with echo_that(late) as target:
        job = Held(targets=(target,), connections=1, duration_s=0.5, every_s=0.05)
        (result,) = await results_of(job)

    assert (None, "n1") == (result.error, result.node)
    assert 0.29 <= result.stall_s
    assert result.size >= 32


async def test_what_does_not_come_back_breaks_the_connection() -> None:
    async def lost(message: bytes) -> bytes:
        await trio.sleep_forever()
        return message

    async with echo_that(lost) as target:
        job = Held(targets=(target,), connections=1, duration_s=60, every_s=0.1, read_timeout_s=0.1)
        (result,) = await results_of(job)

    assert "read_timeout" == result.error


async def test_a_message_of_another_connection_breaks_it() -> None:
    async def swapped(message: bytes) -> bytes:
        return message[::-1]

    async with echo_that(swapped) as target:
        job = Held(targets=(target,), connections=7, duration_s=60, every_s=0.01)
        results = await results_of(job)

    assert {"bad_content"} == {result.error for result in results[1:]}


async def test_a_server_that_knows_no_echo_is_a_failure() -> None:
    async def handle(stream: trio.SocketStream) -> None:
        await stream.receive_some(4096)
        await stream.send_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, handle, [listener])
        target = Target("127.0.0.1", listener.socket.getsockname()[1])
        (result,) = await results_of(Held(targets=(target,), connections=1, duration_s=0.1))
        nursery.cancel_scope.cancel()

    assert "bad_http" == result.error


async def test_a_kept_connection_that_dies_while_idle_fails_at_that_moment() -> None:
    results: list[Result] = []
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        async with node("n1") as target:
            job = Requests(targets=(target,), fresh=0, kept=1, kept_pause_s=1000)
            nursery.start_soon(run_jobs, [job], results.append, stop)
            connection = await HttpConnection.open(target, 1)
            for _ in range(3):
                await connection.get("/", 1)
            await connection.aclose()
        while not any(item.error for item in results):
            await trio.sleep(0.01)
        nursery.cancel_scope.cancel()

    assert results[-1].error in {"closed", "reset", "refused"}


async def test_a_stop_ends_endless_jobs() -> None:
    stop = trio.Event()
    results: list[Result] = []

    def report(result: Result) -> None:
        results.append(result)
        if len(results) == 10:
            stop.set()

    async with node("n1") as target:
        jobs: list[Job] = [
            Requests(targets=(target,), fresh=2, kept=2),
            Downloads(targets=(target,), size=1 << 20, rate=1000, count=None),
            Held(targets=(target,), connections=2, duration_s=1000),
        ]
        await run_jobs(jobs, report, stop)

    assert Counter({("held", None): 2}) == Counter(
        (item.kind, item.error) for item in results if item.kind not in {"request", "opened"}
    )


async def test_udp_queries_are_answered_by_the_node() -> None:
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as sock:
        await sock.bind(("127.0.0.1", 0))
        target = Target("127.0.0.1", sock.getsockname()[1])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_udp, "n1", sock)
            results = await results_of(Queries(targets=(target,), count=100))
            nursery.cancel_scope.cancel()

    assert Counter({("n1", None): 100}) == Counter((item.node, item.error) for item in results)


async def test_udp_without_a_server_is_refused() -> None:
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as sock:
        await sock.bind(("127.0.0.1", 0))
        target = Target("127.0.0.1", sock.getsockname()[1])
    results = await results_of(Queries(targets=(target,), count=3, parallel=1))

    assert ["refused"] * 3 == [item.error for item in results]


async def test_pages_and_errors_of_the_web_server() -> None:
    async with node("n1") as target:
        statuses = {}
        for path in ("/", "/health", "/nothing", "/bytes/x", "/bytes/99999999999", "/slow?bytes=1"):
            connection = await HttpConnection.open(target, 1)
            response = await connection.get(path, 1)
            statuses[path] = response.status
            assert "n1" == response.node
            await connection.aclose()

    assert [200, 200, 404, 400, 400, 400] == list(statuses.values())


async def test_garbage_does_not_hurt_the_server() -> None:
    async with node("n1") as target:
        stream = await trio.open_tcp_stream(target.address, target.port)
        await stream.send_all(b"\x16\x03\x01 this is not HTTP\r\n\r\n")
        with suppress(trio.BrokenResourceError):
            assert b"" == await stream.receive_some()
        await stream.aclose()

        (result,) = await results_of(Requests(targets=(target,), count=1))

    assert result.error is None


async def test_wrong_content_is_an_error() -> None:
    async with node("n1") as target:
        connection = await HttpConnection.open(target, 1)
        with pytest.raises(FetchError) as caught:
            await connection.get_verified("/bytes/100", 99, 1)
        await connection.aclose()

    assert "bad_content" == caught.value.cause


def test_jobs_and_results_survive_the_way_to_the_child() -> None:
    target = Target("2001:db8::1", 8080)
    jobs: list[Job] = [
        Requests(targets=(target,)),
        Downloads(targets=(target,)),
        Held(targets=(target,)),
        Queries(targets=(target,)),
    ]
    result = Result(kind="request", start=1.5, end=2.0, target=str(target), error="reset")

    assert jobs == jobs_from_json(jobs_to_json(jobs))
    assert result == Result.from_json(result.to_json())
