# SPDX-License-Identifier: Apache-2.0
"""The client against a real server, and against everything that is not one."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path

import pytest
import trio

from galelb.api.auth import TOKEN_FILE
from galelb.api.listen import SOCKET_FILE, listen_tcp, listen_unix
from galelb.api.server import ApiServer
from galelb.client import ApiClient, RefusedError, default_socket, open_client
from galelb.errors import ApiError, ConfigError
from galelb.testing.fakes import FakeBalancer

V4 = IPv4Address("127.0.0.1")


async def with_server(directory: Path, ask: Callable[[int], None]) -> None:
    """Run the blocking `ask(port)` in a thread beside a server."""
    with listen_tcp(V4, 0) as probe:
        port = probe.getsockname()[1]
    async with trio.open_nursery() as nursery:
        server = ApiServer(FakeBalancer(), addresses=(V4,), port=port, directory=directory)
        await nursery.start(server.run)
        await trio.to_thread.run_sync(ask, port)
        nursery.cancel_scope.cancel()


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A server that gives the same answer to whatever the one client says."""
    with listen_tcp(V4, 0) as listener:
        listener.setblocking(True)

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


async def test_over_the_unix_socket_everything_is_allowed(tmp_path: Path) -> None:
    def ask(port: int) -> None:
        with open_client(f"unix:{tmp_path / SOCKET_FILE}") as client:
            assert "default" == client.get("status")["instance"]
            assert 2 == len(client.get("flows", service="web", node=None, limit=2)["flows"])
            assert client.drain("web-1", on=True)["draining"]
            assert not client.drain("10.0.0.11", on=False)["draining"]
            assert 5 == client.set_weight("web-1", 5)["weight"]
            assert 1 == client.set_weight("web-1", None)["weight"]

    await with_server(tmp_path, ask)


async def test_over_tcp_changes_need_the_token_file(tmp_path: Path) -> None:
    def ask(port: int) -> None:
        with open_client(f"127.0.0.1:{port}") as client:
            assert client.get("health")["ready"]
            with pytest.raises(RefusedError, match=r"api\.token") as caught:
                client.drain("web-1", on=True)
        assert (401, "unauthorized") == (caught.value.status, caught.value.code)

        with open_client(f"http://127.0.0.1:{port}", token_file=tmp_path / TOKEN_FILE) as client:
            assert client.drain("web-1", on=True)["draining"]

    await with_server(tmp_path, ask)


@pytest.mark.parametrize("name", ["nobody", "a/b", "..", "ä ö", "%2e", "?x=1#y"])
async def test_odd_node_names_are_passed_on_unchanged(tmp_path: Path, name: str) -> None:
    def ask(port: int) -> None:
        with (
            open_client(f"unix:{tmp_path / SOCKET_FILE}") as client,
            pytest.raises(RefusedError) as caught,
        ):
            client.drain(name, on=True)
        assert 404 == caught.value.status

    await with_server(tmp_path, ask)


def test_no_socket_means_that_no_balancer_runs(tmp_path: Path) -> None:
    with ApiClient(tmp_path / SOCKET_FILE) as client, pytest.raises(ApiError) as caught:
        client.get("status")

    assert "no balancer runs here" in str(caught.value)
    assert "galelb run" in str(caught.value)


def test_a_socket_that_nobody_listens_on_means_that_it_died(tmp_path: Path) -> None:
    path = tmp_path / SOCKET_FILE
    listen_unix(path).close()

    with ApiClient(path) as client, pytest.raises(ApiError, match="stopped or crashed"):
        client.get("status")


def test_a_file_that_is_no_socket(tmp_path: Path) -> None:
    path = tmp_path / SOCKET_FILE
    path.touch()

    with ApiClient(path) as client, pytest.raises(ApiError, match="not a socket"):
        client.get("status")


def test_a_refused_port_is_explained() -> None:
    with listen_tcp(V4, 0) as probe:
        port = probe.getsockname()[1]

    with (
        open_client(f"127.0.0.1:{port}") as client,
        pytest.raises(ApiError, match=f"no balancer listens at http://127.0.0.1:{port}"),
    ):
        client.get("status")


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n7",
        b'HTTP/1.1 500 Oops\r\ncontent-length: 11\r\n\r\n{"error":1}',
        b"HTTP/1.1 404 Nope\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\nxx",
    ],
)
def test_what_is_not_the_api_is_an_error(answer: bytes) -> None:
    with answering(answer) as url, ApiClient(url) as client, pytest.raises(ApiError) as caught:
        client.get("status")

    assert url in str(caught.value)


@pytest.mark.parametrize(
    "api",
    ["", "https://x", "ftp://x", "http://", "http://[::", "http://x:99999", "x/path", "a b:c"],
)
def test_a_bad_url_says_what_a_good_one_is(api: str) -> None:
    with pytest.raises(ApiError, match="use http://HOST:PORT or unix:"):
        open_client(api)


@pytest.mark.parametrize("content", ["", "two\nlines", "x" * 2000, "ü" * 40])
def test_a_file_without_a_token(tmp_path: Path, content: str) -> None:
    path = tmp_path / "token"
    path.write_text(content)

    with pytest.raises(ApiError, match="holds no token") as caught:
        open_client("127.0.0.1:1", token_file=path)

    assert not content or content not in str(caught.value)


def test_a_missing_token_file(tmp_path: Path) -> None:
    with pytest.raises(ApiError, match="No such file"):
        open_client("127.0.0.1:1", token_file=tmp_path / "token")


def test_the_configuration_names_the_socket(tmp_path: Path) -> None:
    path = tmp_path / "lb.toml"
    path.write_text('[instance]\nname = "blue"\nrun_dir = "/tmp/x"\n[nonsense]\n')

    assert Path("/tmp/x/blue/api.sock") == default_socket(path)


def test_without_a_configuration_it_is_the_default_instance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("galelb.config.toml_file.SYSTEM_FOLDER", tmp_path / "etc")

    assert Path("/run/galelb/default/api.sock") == default_socket()

    (tmp_path / "lb.toml").write_text("")
    assert Path("/run/galelb/default/api.sock") == default_socket()


@pytest.mark.parametrize(
    "text", ["[instance", "[instance]\nname = 5", "[instance]\nname = '../x'", None]
)
def test_an_unusable_configuration_is_an_error(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "lb.toml"
    if text is not None:
        path.write_text(text)

    with pytest.raises(ConfigError, match=r"lb\.toml"):
        default_socket(path)


def test_a_proxy_of_the_environment_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://192.0.2.1:1")
    body = b'{"ready": true}'
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)

    with answering(answer) as url, ApiClient(url) as client:
        assert {"ready": True} == client.get("health")


def test_without_permission_it_says_how_to_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(self: socket.socket, address: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    path = tmp_path / SOCKET_FILE
    with listen_unix(path), ApiClient(path) as client, monkeypatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect)
        with pytest.raises(ApiError, match=r"not allowed to use .*: run as root, or read over"):
            client.get("status")
