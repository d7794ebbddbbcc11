# SPDX-License-Identifier: Apache-2.0
"""A capture over the API: who may, what for, for how long, and that it ends with its client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest
import trio
import trio.testing
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from galelb.api import limits
from galelb.api import server as server_module
from galelb.api.auth import TOKEN_FILE
from galelb.api.guard import Guard
from galelb.api.listen import SOCKET_FILE, listen_tcp
from galelb.api.server import ApiServer
from galelb.api.streaming import LAST_KEY
from galelb.api.view import CaptureWish
from galelb.testing.fakes import ENDLESS, FakeBalancer

V4 = ip_address("127.0.0.1")
PARTS = [b"first", b"second"]


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await trio.sleep(0.001)


@asynccontextmanager
async def serving(directory: Path, view: FakeBalancer) -> AsyncIterator[int]:
    with listen_tcp(V4, 0) as sock:
        port = int(sock.getsockname()[1])
    server = ApiServer(view, addresses=(V4,), port=port, directory=directory)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        yield port
        nursery.cancel_scope.cancel()


async def connected(directory: Path, query: str = "") -> trio.SocketStream:
    """Ask for a capture as bytes on a socket; returns it when the answer has begun."""
    stream = await trio.open_unix_socket(str(directory / SOCKET_FILE))
    request = f"POST /v1/capture{query} HTTP/1.1\r\nhost: galelb\r\n\r\n"
    await stream.send_all(request.encode())
    head = b""
    while b"first" not in head:
        head += await stream.receive_some()
    assert head.startswith(b"HTTP/1.1 200")
    assert b"content-type: application/x-pcapng" in head
    return stream


async def test_parts_are_sent_as_they_come_and_then_it_is_over(
    client: httpx.AsyncClient, balancer: FakeBalancer
) -> None:
    balancer.capture_parts = list(PARTS)

    answer = await client.post("/v1/capture")

    assert (200, b"firstsecond") == (answer.status_code, answer.content)
    assert "application/x-pcapng" == answer.headers["content-type"]
    assert ([CaptureWish()], 0) == (balancer.wishes, balancer.captures)


async def test_everything_can_be_asked_for(
    client: httpx.AsyncClient, balancer: FakeBalancer
) -> None:
    query = "service=web&node=web-1&dropped=true&snaplen=64&count=5&seconds=9"

    assert 200 == (await client.post(f"/v1/capture?{query}")).status_code
    assert 200 == (await client.post("/v1/capture?everything=true")).status_code

    address = balancer.node_list[0].record.node.address
    asked = CaptureWish(service="web", node=address, dropped=True, snaplen=64, count=5, seconds=9)
    assert [asked, CaptureWish(everything=True)] == balancer.wishes


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("snaplen=63", 400, "bad_parameter"),
        ("snaplen=9217", 400, "bad_parameter"),
        ("count=0", 400, "bad_parameter"),
        ("count=-1", 400, "bad_parameter"),
        ("seconds=0", 400, "bad_parameter"),
        ("seconds=86401", 400, "bad_parameter"),
        ("seconds=1.5", 400, "bad_parameter"),
        ("dropped=yes", 400, "bad_parameter"),
        ("everything=1", 400, "bad_parameter"),
        ("everything=true&service=web", 400, "bad_parameter"),
        ("interface=eth0", 400, "unknown_parameter"),
        ("service=wbe", 404, "unknown_service"),
        ("node=10.9.9.9", 404, "unknown_node"),
    ],
)
async def test_what_cannot_be_asked_for(
    client: httpx.AsyncClient, balancer: FakeBalancer, query: str, status: int, code: str
) -> None:
    answer = await client.post(f"/v1/capture?{query}")

    assert (status, code) == (answer.status_code, answer.json()["error"]["code"])
    assert [] == balancer.wishes


async def test_over_tcp_it_needs_the_token(tmp_path: Path) -> None:
    view = FakeBalancer()
    async with (
        serving(tmp_path, view) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        refused = await client.post("/v1/capture")
        token = (tmp_path / TOKEN_FILE).read_text().strip()
        allowed = await client.post("/v1/capture", headers={"authorization": f"Bearer {token}"})

    assert (401, 200) == (refused.status_code, allowed.status_code)
    assert 1 == len(view.wishes)


async def test_a_second_one_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    view = FakeBalancer(capture_parts=[*PARTS, ENDLESS])
    async with serving(tmp_path, view), await connected(tmp_path):
        transport = httpx.AsyncHTTPTransport(uds=str(tmp_path / SOCKET_FILE))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            answer = await client.post("/v1/capture")

        assert (409, "refused") == (answer.status_code, answer.json()["error"]["code"])
        assert 1 == view.captures


async def test_a_client_that_goes_away_ends_it(tmp_path: Path) -> None:
    view = FakeBalancer(capture_parts=[*PARTS, ENDLESS])
    async with serving(tmp_path, view):
        stream = await connected(tmp_path)
        assert 1 == view.captures

        await stream.aclose()

        await until(lambda: view.captures == 0)


async def test_the_end_of_the_server_ends_it(tmp_path: Path) -> None:
    view = FakeBalancer(capture_parts=[*PARTS, ENDLESS])
    async with serving(tmp_path, view):
        stream = await connected(tmp_path)

    assert 0 == view.captures
    async with stream:
        assert b"second" in b"".join([part async for part in stream])


async def test_the_limits_of_time_of_other_requests_do_not_hold(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope[LAST_KEY]()
        await trio.sleep(10_000)
        await Response(b"done")(scope, receive, send)

    transport = httpx.ASGITransport(Guard(app))
    async with httpx.AsyncClient(transport=transport, base_url="http://x", timeout=None) as client:
        assert b"done" == (await client.get("/")).content


async def test_nor_do_those_of_connections(autojump_clock: trio.testing.MockClock) -> None:
    here, there = (trio.SocketStream(one) for one in trio.socket.socketpair())
    async with here, there, trio.open_nursery() as nursery:
        connection = server_module._Connection(here)
        nursery.start_soon(connection.end_in_time, nursery.cancel_scope)
        received: list[bytes] = []

        async def receive() -> None:
            received.append(await connection.receive_some(10))

        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        connection.last()
        await trio.sleep(10_000)
        await there.send_all(b"x")
        await trio.testing.wait_all_tasks_blocked()

        assert [b"x"] == received
        nursery.cancel_scope.cancel()


async def test_but_those_of_others_do(autojump_clock: trio.testing.MockClock) -> None:
    here, there = (trio.SocketStream(one) for one in trio.socket.socketpair())
    async with here, there:
        connection = server_module._Connection(here)

        with pytest.raises(trio.TooSlowError):
            await connection.receive_some(10)


async def test_a_client_that_takes_nothing_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "STALL_S", 0.05)
    view = FakeBalancer(capture_parts=[b"first", *[bytes(1 << 20)] * 8, ENDLESS])
    async with serving(tmp_path, view), await connected(tmp_path):
        await until(lambda: view.captures == 0)


def test_what_is_not_asked_for_is_what_a_wish_has() -> None:
    assert CaptureWish().snaplen == limits.DEFAULT_SNAPLEN
    assert CaptureWish().seconds == limits.DEFAULT_SECONDS


def test_programs_have_room_for_what_can_be_asked_for() -> None:
    header = (Path(__file__).parents[2] / "bpf/capture.h").read_text()

    assert f"#define GALE_CAPTURE_SNAP\t{limits.MAX_SNAPLEN}\t" in header
