# SPDX-License-Identifier: Apache-2.0
"""etcd's v3 API as JSON over HTTP: bounded requests, streams, log-in, and the next endpoint."""

from __future__ import annotations

import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import trio
from galelb_plugins.sync_etcd.options import EtcdOptions
from galelb_plugins.sync_etcd.tls import tls_context

from galelb.config.problems import KeyProblemError
from galelb.errors import GaleError

__all__ = ["EtcdError", "Gateway"]

_REQUEST_S = 2.0
"""Longest time of a request; half a lease_ttl if that is less: a dead endpoint must not end it."""
MAX_ANSWER = 8 << 20
"""Bytes of an answer, and of one line of a stream."""
_PASSWORD_BYTES = 4096
_REST_S = 0.1

Take = Callable[[dict[str, Any]], bool]


class EtcdError(GaleError):
    """etcd cannot be reached or refuses; the message holds no secret."""


class Gateway:
    """A client of etcd; all methods raise EtcdError. Blocks on the disk when it is made."""

    def __init__(self, options: EtcdOptions) -> None:
        self._options = options
        self._at = 0
        self._token = ""
        self.log_ins = 0
        self._request_s = min(_REQUEST_S, options.lease_ttl / 2)
        self._http = httpx.AsyncClient(
            verify=_tls(options), timeout=self._request_s, trust_env=False, follow_redirects=False
        )

    @property
    def endpoint(self) -> str:
        """Where requests go now."""
        return self._options.endpoints[self._at % len(self._options.endpoints)]

    def turn(self, failed: str) -> None:
        """Use the next endpoint, unless another task has turned away from this one already."""
        if self.endpoint == failed:
            self._at += 1

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def ask(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the first line of the answer to one request."""
        endpoint = self.endpoint
        with trio.move_on_after(2 * self._request_s):
            if not self._token:
                await self._log_in()
                return await self._ask(path, body)
            try:
                return await self._ask(path, body)
            except EtcdError:
                if self._token:
                    raise
            # etcd takes the token no more: it is too old, or etcd began anew.
            await self._log_in()
            return await self._ask(path, body)
        self.turn(endpoint)
        raise EtcdError(f"{endpoint}: no answer")

    async def stream(self, path: str, body: Mapping[str, Any], take: Take) -> None:
        """Give each line of an answer to `take` until it returns False or raises.

        Silence is no failure.
        """
        await self._log_in()  # tokens age, and streams are rare
        await self._lines(path, body, take, None)

    async def _ask(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        answers: list[dict[str, Any]] = []

        def take(answer: dict[str, Any]) -> bool:
            answers.append(answer)
            return False

        endpoint = self.endpoint
        await self._lines(path, body, take, self._request_s)
        if not answers:
            raise EtcdError(f"{endpoint}: empty answer")
        return answers[0]

    async def _log_in(self) -> None:
        file = self._options.password_file
        if file is None:
            return
        password = await trio.to_thread.run_sync(_read_password, file)
        body = {"name": self._options.username, "password": password}
        token = (await self._ask("auth/authenticate", body)).get("token")
        if not isinstance(token, str) or not (token.isascii() and token.isprintable()):
            raise EtcdError(f"{self.endpoint}: no token after logging in")
        self._token = token
        self.log_ins += 1

    async def _lines(
        self, path: str, body: Mapping[str, Any], take: Take, silence: float | None
    ) -> None:
        endpoint = self.endpoint
        limits = httpx.Timeout(self._request_s, read=silence)
        request = _request(f"{endpoint}/v3/{path}", body, self._token, limits)
        try:
            response = await self._http.send(request, stream=True)
            async with contextlib.aclosing(response):
                lines = _Lines(endpoint, response.status_code, take)
                await _feed(response, lines)
            if not response.is_success:
                self._token = ""
            lines.end()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            self.turn(endpoint)
            raise EtcdError(f"{endpoint}: {_cause(error)}") from None
        except EtcdError:
            self.turn(endpoint)
            raise


class _Body(httpx.AsyncByteStream):
    """A request's body in one piece. httpx's own leaves a generator half-way when sending fails."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _Once([self._data])


class _Once(AsyncIterator[bytes]):
    def __init__(self, chunks: list[bytes]) -> None:
        self._chunks = chunks

    async def __anext__(self) -> bytes:
        if not self._chunks:
            raise StopAsyncIteration
        return self._chunks.pop(0)


def _request(url: str, body: Mapping[str, Any], token: str, limits: httpx.Timeout) -> httpx.Request:
    data = json.dumps(body).encode()
    # With a stream of our own httpx adds no headers itself.
    host = httpx.URL(url).netloc.decode()
    headers = {"host": host, "content-length": str(len(data)), "content-type": "application/json"}
    if token:
        headers["authorization"] = token
    extensions = {"timeout": limits.as_dict()}
    return httpx.Request("POST", url, headers=headers, stream=_Body(data), extensions=extensions)


class _Lines:
    """Cuts an answer into lines."""

    def __init__(self, endpoint: str, status: int, take: Take) -> None:
        self._endpoint = endpoint
        self._status = status
        self._take = take
        self._buffer = bytearray()
        self._done = False

    def feed(self, chunk: bytes) -> bool:
        """Take in bytes; returns whether more are wanted. Raises EtcdError."""
        self._buffer += chunk
        if len(self._buffer) > MAX_ANSWER:
            raise EtcdError(f"{self._endpoint}: answer too long")
        if self._status == HTTPStatus.OK and b"\n" in chunk:
            *lines, rest = bytes(self._buffer).split(b"\n")
            self._buffer[:] = rest
            for line in lines:
                if not self._take(_parse(line, self._endpoint)):
                    self._done = True
                    return False
        return True

    def end(self) -> None:
        """Take in a last line without an end. Raises EtcdError for what says that it is one."""
        if self._status != HTTPStatus.OK:
            raise EtcdError(f"{self._endpoint}: {_reason(bytes(self._buffer), self._status)}")
        if not self._done and self._buffer.strip():
            self._take(_parse(bytes(self._buffer), self._endpoint))


async def _feed(response: httpx.Response, lines: _Lines) -> None:
    """Read until the end, or until no more is wanted.

    A generator of httpx that is left half-way is not closed in order, so what stops it is
    cancellation from inside.
    """
    problem: Exception | None = None
    wanted = True
    with trio.CancelScope() as scope:
        async for chunk in response.aiter_bytes():
            if not wanted:
                continue
            try:
                wanted = lines.feed(chunk)
            except Exception as error:
                wanted, problem = False, error
            if not wanted:
                # An answer that is complete is read to its end, so that its connection stays.
                scope.deadline = trio.current_time() + _REST_S
    if problem is not None:
        raise problem


def _tls(options: EtcdOptions) -> ssl.SSLContext | bool:
    if not any(endpoint.startswith("https:") for endpoint in options.endpoints):
        return False
    try:
        return tls_context(options.ca_file, options.cert_file, options.key_file)
    except KeyProblemError as error:
        raise EtcdError(f"sync_etcd: {error}") from None


def _read_password(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return opened.read(_PASSWORD_BYTES).split(b"\n")[0].decode()
    except (OSError, UnicodeDecodeError):
        raise EtcdError(f"{file}: cannot be read as a password") from None


def _parse(line: bytes, endpoint: str) -> dict[str, Any]:
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        raise EtcdError(f"{endpoint}: answer is no JSON") from None
    if not isinstance(answer, dict):
        raise EtcdError(f"{endpoint}: answer is no object")
    if "error" in answer:
        raise EtcdError(f"{endpoint}: {_reason(line, 0)}")
    result = answer.get("result", answer)
    if not isinstance(result, dict):
        raise EtcdError(f"{endpoint}: answer is no object")
    return result


def _cause(error: BaseException) -> str:
    """Return what went wrong; httpx and trio often wrap it in errors without words."""
    name = type(error).__name__
    inner: BaseException | None = error
    for _ in range(10):
        if inner is None or str(inner):
            break
        inner = inner.__cause__ or inner.__context__
    return (str(inner or "") or name)[:200]


def _reason(body: bytes, status: int) -> str:
    """Return what etcd says is wrong, as printable text."""
    try:
        answer = json.loads(body)
        said = answer.get("message") or answer.get("error")
        said = said.get("message", "") if isinstance(said, dict) else said
    except (ValueError, RecursionError, AttributeError):
        said = ""
    text = "".join(char for char in str(said or "") if char.isprintable())[:200]
    return text or f"HTTP status {status}"
