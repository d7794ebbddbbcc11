# SPDX-License-Identifier: Apache-2.0
"""Events over real sockets, and who may read what."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from pathlib import Path

import httpx
import pytest
import trio

from galelb.api import server as server_module
from galelb.api.auth import TOKEN_FILE
from galelb.api.listen import SOCKET_FILE, listen_tcp
from galelb.api.operations import OPERATIONS
from galelb.api.server import ApiServer
from galelb.testing.fakes import FakeBalancer

HOST = IPv4Address("127.0.0.1")


@asynccontextmanager
async def serving(
    directory: Path, view: FakeBalancer, *, token_reads: bool = False
) -> AsyncIterator[httpx.AsyncClient]:
    """Serve over TCP and give a client of it."""
    with listen_tcp(HOST, 0) as sock:
        port = sock.getsockname()[1]
    server = ApiServer(
        view, addresses=(HOST,), port=port, directory=directory, token_reads=token_reads
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        url = f"http://{HOST}:{port}"
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=20) as client:
            yield client
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that surely comes; a test that waits for ever is ended from outside."""
    while not condition():
        await trio.sleep(0.01)


async def asking(client: httpx.AsyncClient) -> trio.SocketStream:
    """Ask for events on a connection that the caller reads and closes."""
    stream = await trio.open_tcp_stream(str(HOST), client.base_url.port or 0)
    await stream.send_all(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n")
    return stream


async def read_until(stream: trio.SocketStream, what: bytes, times: int = 1) -> bytes:
    """Return what comes, up to a part that has it so often."""
    received = b""
    while received.count(what) < times:
        part = await stream.receive_some()
        assert part, received
        received += part
    return received


async def test_events_are_read_as_they_happen_until_the_client_leaves(tmp_path: Path) -> None:
    view = FakeBalancer()
    async with serving(tmp_path, view) as client:
        async with await asking(client) as stream:
            await until(lambda: view.events.subscribers == 1)
            view.events.add("attached", interface="eth0", mode="tc")
            received = await read_until(stream, b'"mode": "tc"}\n\n')
        await until(lambda: view.events.subscribers == 0)

    assert b"\r\ncontent-type: text/event-stream; charset=utf-8\r\n" in received
    assert b"\nevent: attached\n" in received


async def test_streams_outlive_the_usual_end_of_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MAX_CONNECTION_S", "READ_S"):
        monkeypatch.setattr(server_module, name, 0.5)
    monkeypatch.setattr("galelb.api.guard.REQUEST_TIMEOUT_S", 0.5)
    monkeypatch.setattr("galelb.api.streaming.HEARTBEAT_S", 0.05)
    async with serving(tmp_path, FakeBalancer()) as client, await asking(client) as stream:
        await read_until(stream, b": nothing new\n\n", times=30)


async def test_who_does_not_read_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "STALL_S", 0.05)
    view = FakeBalancer()
    async with serving(tmp_path, view) as client, client.stream("GET", "/v1/events"):
        await until(lambda: view.events.subscribers == 1)

        def cut_off() -> bool:
            view.events.add("config_refused", reason="x" * 50_000)
            return view.events.subscribers == 0

        await until(cut_off)
        assert 200 == (await client.get("/v1/status")).status_code


async def test_stopping_ends_streams(tmp_path: Path) -> None:
    view = FakeBalancer()
    async with serving(tmp_path, view) as client, client.stream("GET", "/v1/events") as response:
        await until(lambda: view.events.subscribers == 1)
        view.events.close()

        assert [] == [line async for line in response.aiter_lines() if line.startswith("data")]


async def test_reads_need_the_token_when_configured_so(tmp_path: Path) -> None:
    async with serving(tmp_path, FakeBalancer(), token_reads=True) as client:
        refused = [
            one.name
            for one in OPERATIONS
            for answer in [await client.request(one.method, one.path.format(node="web-1"))]
            if answer.status_code == 401
        ]
        token = (tmp_path / TOKEN_FILE).read_text().strip()
        bearer = {"authorization": f"Bearer {token}"}
        allowed = await client.get("/metrics", headers=bearer)
        wrong = await client.get("/metrics", headers={"authorization": "Bearer x"})
        transport = httpx.AsyncHTTPTransport(uds=str(tmp_path / SOCKET_FILE))
        async with httpx.AsyncClient(transport=transport, base_url="http://galelb") as local:
            at_home = await local.get("/v1/status")

    assert {"health", "openapi"} == {one.name for one in OPERATIONS} - set(refused)
    assert (200, 401, 200) == (allowed.status_code, wrong.status_code, at_home.status_code)
    assert "reads over TCP need" in wrong.json()["error"]["message"]
