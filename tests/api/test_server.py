# SPDX-License-Identifier: Apache-2.0
"""The server on real sockets: who may do what, what is bounded, how it stops."""

from __future__ import annotations

import contextlib
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import httpx
import pytest
import trio
from structlog.testing import capture_logs

from galelb.api import server as server_module
from galelb.api.auth import TOKEN_FILE
from galelb.api.guard import MAX_BODY_BYTES
from galelb.api.listen import SOCKET_FILE, listen_tcp, listen_unix
from galelb.api.server import ApiServer
from galelb.api.view import BalancerView
from galelb.errors import ApiError
from galelb.model import IPAddress, Metric
from galelb.testing.fakes import FakeBalancer

V4 = IPv4Address("127.0.0.1")


def free_port(address: IPAddress = V4) -> int:
    with listen_tcp(address, 0) as sock:
        return int(sock.getsockname()[1])


@asynccontextmanager
async def serving(
    directory: Path, *addresses: IPAddress, view: BalancerView | None = None
) -> AsyncIterator[int]:
    port = free_port()
    server = ApiServer(
        view or FakeBalancer(), addresses=addresses or (V4,), port=port, directory=directory
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        yield port
        nursery.cancel_scope.cancel()


def over_unix(directory: Path) -> httpx.AsyncClient:
    transport = httpx.AsyncHTTPTransport(uds=str(directory / SOCKET_FILE))
    return httpx.AsyncClient(transport=transport, base_url="http://galelb")


def over_tcp(port: int, host: str = "127.0.0.1") -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://{host}:{port}", trust_env=False)


async def raw(port: int, data: bytes) -> bytes:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all(data)
        return await rest(stream)


async def rest(stream: trio.SocketStream) -> bytes:
    """Everything until the server ends the connection, cleanly or not."""
    received = b""
    with suppress(trio.BrokenResourceError):
        async for part in stream:
            received += part
    return received


async def test_the_unix_socket_needs_no_token_and_is_its_owners_only(tmp_path: Path) -> None:
    async with serving(tmp_path), over_unix(tmp_path) as client:
        assert 200 == (await client.post("/v1/nodes/web-1/drain")).status_code
        mode = stat.S_IMODE((tmp_path / SOCKET_FILE).stat().st_mode)

    assert 0o600 == mode
    assert not (tmp_path / SOCKET_FILE).exists()


async def test_tcp_reads_are_open_and_changes_need_the_token(tmp_path: Path) -> None:
    async with serving(tmp_path) as port, over_tcp(port) as client:
        assert 200 == (await client.get("/v1/status")).status_code
        assert 401 == (await client.post("/v1/nodes/web-1/drain")).status_code

        token = (tmp_path / TOKEN_FILE).read_text().strip()
        headers = {"authorization": f"Bearer {token}"}
        drained = await client.post("/v1/nodes/web-1/drain", headers=headers)

    assert 200 == drained.status_code


async def test_it_listens_on_every_private_address_of_both_families(tmp_path: Path) -> None:
    async with serving(tmp_path, V4, IPv6Address("::1")) as port:
        for host in ("127.0.0.1", "[::1]"):
            async with over_tcp(port, host) as client:
                assert 200 == (await client.get("/v1/health")).status_code
        # 127.0.0.2 is on this machine too, but nobody asked for it.
        with pytest.raises(OSError, match=r"127\.0\.0\.2"):
            await trio.open_tcp_stream("127.0.0.2", port)


async def test_without_a_private_address_the_unix_socket_still_serves(tmp_path: Path) -> None:
    server = ApiServer(FakeBalancer(), addresses=(), port=5555, directory=tmp_path)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        async with over_unix(tmp_path) as client:
            assert 200 == (await client.get("/v1/health")).status_code
        nursery.cancel_scope.cancel()


async def test_a_port_in_use_is_named_with_what_to_do(tmp_path: Path) -> None:
    with listen_tcp(V4, 0) as taken:
        port = taken.getsockname()[1]
        server = ApiServer(FakeBalancer(), addresses=(V4,), port=port, directory=tmp_path)
        with pytest.raises(ApiError) as caught:
            await server.run()

    assert f"127.0.0.1:{port}" in str(caught.value)
    assert "api_port" in str(caught.value)
    assert not (tmp_path / SOCKET_FILE).exists()


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("0.0.0.0", "private addresses only"),
        ("::", "private addresses only"),
        ("224.0.0.1", "private addresses only"),
        ("192.0.2.99", "not on this machine"),
    ],
)
def test_addresses_that_cannot_be_served(address: str, says: str) -> None:
    with pytest.raises(ApiError, match=says):
        listen_tcp(ip_address(address), 0)


def test_a_link_local_address_needs_its_interface() -> None:
    index = socket.if_nametoindex("lo")

    with listen_tcp(IPv6Address("fe80::1"), 0, ifindex=index) as sock:
        assert index == sock.getsockname()[3]
    with listen_tcp(IPv6Address("fe80::1%lo"), 0) as sock:
        assert index == sock.getsockname()[3]


def test_the_socket_of_a_dead_balancer_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / SOCKET_FILE
    listen_unix(path).close()
    assert path.exists()

    with listen_unix(path):
        pass


def test_the_socket_of_a_live_balancer_is_not(tmp_path: Path) -> None:
    path = tmp_path / SOCKET_FILE

    with listen_unix(path):
        with pytest.raises(ApiError, match="a running balancer answers there"):
            listen_unix(path)
        assert path.exists()


@pytest.mark.parametrize("name", ["api.sock", "x" * 120])
def test_other_files_and_long_paths_are_errors(tmp_path: Path, name: str) -> None:
    (tmp_path / "api.sock").write_text("precious")

    with pytest.raises(ApiError, match="cannot listen on"):
        listen_unix(tmp_path / name)

    assert "precious" == (tmp_path / "api.sock").read_text()


async def test_a_body_of_the_limit_passes_and_one_byte_more_does_not(tmp_path: Path) -> None:
    path = "/v1/nodes/web-1/weight"
    body = b'{"weight": 2}'.ljust(MAX_BODY_BYTES)
    async with serving(tmp_path), over_unix(tmp_path) as client:
        assert 200 == (await client.put(path, content=body)).status_code
        too_large = await client.put(path, content=body + b" ")
        much_too_large = await client.put(path, content=body * 10)
        get_with_body = await client.request("GET", "/v1/status", content=b"ignored")

    assert [413, 413] == [too_large.status_code, much_too_large.status_code]
    assert "body_too_large" == too_large.json()["error"]["code"]
    assert 200 == get_with_body.status_code


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /v1/status HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 70_000 + b"\r\n\r\n",
        b"GET /v1/\xff HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST /v1/nodes/x/drain HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_what_is_not_http_is_a_4xx(tmp_path: Path, request_bytes: bytes) -> None:
    async with serving(tmp_path) as port, over_tcp(port) as client:
        answer = await raw(port, request_bytes)
        assert answer.startswith(b"HTTP/1.1 4")
        assert 200 == (await client.get("/v1/health")).status_code


async def test_broken_http2_and_websockets_do_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "KEEP_ALIVE_S", 0.2)
    upgrade = (
        b"GET /v1/status HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    async with serving(tmp_path) as port, over_tcp(port) as client:
        await raw(port, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 64)
        answer = await raw(port, upgrade)
        assert 200 == (await client.get("/v1/health")).status_code

    assert answer.startswith(b"HTTP/1.1 403")


async def test_a_connection_that_fails_inside_is_logged_and_ends_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*args: object) -> None:
        raise RuntimeError("bug")

    async with serving(tmp_path) as port, over_tcp(port) as client:
        with monkeypatch.context() as patch, capture_logs() as logs:
            patch.setattr(server_module, "TCPServer", broken)
            assert b"" == await raw(port, b"x")
        assert 200 == (await client.get("/v1/health")).status_code

    assert ["api_connection_failed"] == [entry["event"] for entry in logs]


async def test_connections_over_the_bound_wait_and_the_unix_socket_has_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 2)
    request = b"GET /v1/health HTTP/1.1\r\nhost: x\r\n\r\n"
    async with serving(tmp_path) as port, AsyncExitStack() as stack:
        idle = [await stack.enter_async_context(await connect(port)) for _ in range(2)]
        for stream in idle:
            await stream.send_all(request)
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
        waiting = await stack.enter_async_context(await connect(port))
        await waiting.send_all(request)

        async with over_unix(tmp_path) as client:
            assert 200 == (await client.get("/v1/health")).status_code
        await idle[0].aclose()

        assert (await waiting.receive_some()).startswith(b"HTTP/1.1 200")


async def test_one_address_cannot_take_all_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "MAX_PER_PEER", 1)
    request = b"GET /v1/health HTTP/1.1\r\nhost: x\r\n\r\n"
    async with serving(tmp_path) as port:
        async with await connect(port) as first:
            await first.send_all(request)
            assert (await first.receive_some()).startswith(b"HTTP/1.1 200")
            async with await connect(port) as second:
                assert await second.receive_some() == b""
        answer = b""
        with trio.fail_after(30):  # the place is given back soon
            while not answer.startswith(b"HTTP/1.1 200"):
                async with await connect(port) as again:
                    with contextlib.suppress(trio.BrokenResourceError):
                        await again.send_all(request)
                        answer = await again.receive_some()


async def connect(port: int) -> trio.SocketStream:
    return await trio.open_tcp_stream("127.0.0.1", port)


async def test_stopping_waits_for_a_running_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "GRACE_S", 30)  # enough for any machine

    class Slow(FakeBalancer):
        asked = trio.Event()
        answer = trio.Event()

        async def ready(self) -> str:
            self.asked.set()
            await self.answer.wait()
            return ""

    view = Slow()
    server = ApiServer(view, addresses=(V4,), port=(port := free_port()), directory=tmp_path)
    answers: list[int] = []

    async def ask() -> None:
        async with over_tcp(port) as client:
            answers.append((await client.get("/v1/health")).status_code)

    async with trio.open_nursery() as nursery, trio.open_nursery() as serving_nursery:
        await serving_nursery.start(server.run)
        nursery.start_soon(ask)
        await view.asked.wait()
        serving_nursery.cancel_scope.cancel()
        view.answer.set()

    assert [200] == answers


async def test_stopping_does_not_wait_for_a_client_that_never_reads(tmp_path: Path) -> None:
    view = FakeBalancer()
    # More than all the buffers between server and client.
    view.metric_list = [Metric(name=f"m{n}", help="x" * 4000, value=n) for n in range(4000)]
    with trio.fail_after(30):
        async with serving(tmp_path, view=view) as port:
            deaf = await connect(port)
            await deaf.send_all(b"GET /v1/metrics HTTP/1.1\r\nhost: x\r\n\r\n")
            # The first byte tells that it is sending.
            assert b"H" == await deaf.receive_some(1)

    async with deaf:
        assert len(await rest(deaf)) < 4000 * 4000


async def test_stopping_closes_idle_connections(tmp_path: Path) -> None:
    async with serving(tmp_path) as port:
        idle = await connect(port)
        await idle.send_all(b"GET /v1/health HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"H" == await idle.receive_some(1)

    async with idle:
        assert (await rest(idle)).endswith(b'{"ready": true, "reason": ""}\n')


async def test_a_slow_body_is_answered_408(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("galelb.api.guard.BODY_TIMEOUT_S", 0.05)
    async with serving(tmp_path) as port:
        head = b"PUT /v1/nodes/x/weight HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n"
        answer = await raw(port, head)

    assert answer.startswith(b"HTTP/1.1 408")


async def test_even_a_busy_connection_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MAX_CONNECTION_S", 0.05)
    monkeypatch.setattr(server_module, "GRACE_S", 0.05)
    async with serving(tmp_path) as port:
        assert b"" == await raw(port, b"GET /v1/he")
