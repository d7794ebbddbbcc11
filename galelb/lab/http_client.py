# SPDX-License-Identifier: Apache-2.0
"""A small HTTP/1.1 client on trio and h11 whose every failure has a name."""

from __future__ import annotations

import errno
import hashlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address

import attrs
import h11
import trio

from galelb.errors import GaleError
from galelb.lab import payload
from galelb.lab.http_server import CLIENT_HEADER, ECHO_PROTOCOL, NODE_HEADER

__all__ = ["FetchError", "HttpConnection", "Response", "Target", "cause_of"]

_READ_SIZE = 262144
_BODY_KEPT = 1 << 20
_CAUSES = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset",
    errno.EPIPE: "reset",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
    errno.ETIMEDOUT: "timed_out",
}


class FetchError(GaleError):
    """A request failed; `cause` is one word for the tables.

    Causes: connect_timeout, read_timeout, refused, reset, unreachable, timed_out, closed,
    bad_http, bad_content, status_NNN.
    """

    def __init__(self, cause: str, message: str = "") -> None:
        super().__init__(f"{cause}: {message}" if message else cause)
        self.cause = cause


@attrs.frozen
class Target:
    """Where to connect."""

    address: str
    port: int

    def __str__(self) -> str:
        """Return it as in a URL."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"


@attrs.frozen(kw_only=True)
class Response:
    """A complete answer."""

    status: int
    node: str
    size: int
    sha256: str
    body: bytes
    """The first MiB of the body."""


class HttpConnection:
    """One connection; use it again for the next request, and close it with `aclose`.

    Every method raises FetchError and nothing else.
    """

    def __init__(self, stream: trio.SocketStream, host: str) -> None:
        self._stream = stream
        self._host = host
        self._http = h11.Connection(h11.CLIENT)
        self.node = ""
        """The node that answered last, known as soon as its headers are here."""
        self.seen_as = ""
        """The address that the node saw."""

    @classmethod
    async def open(cls, target: Target, timeout_s: float) -> HttpConnection:
        """Connect over TCP, or fail within the time-out."""
        version6 = ip_address(target.address).version == 6
        family = trio.socket.AF_INET6 if version6 else trio.socket.AF_INET
        sock = trio.socket.socket(family, trio.socket.SOCK_STREAM)
        try:
            with _named("connect_timeout", timeout_s):
                await sock.connect((target.address, target.port))
        except BaseException:
            sock.close()
            raise
        return cls(trio.SocketStream(sock), str(target))

    @classmethod
    async def open_unix(cls, path: str, timeout_s: float) -> HttpConnection:
        """Connect to a unix socket."""
        with _named("connect_timeout", timeout_s):
            return cls(await trio.open_unix_socket(path), "localhost")

    async def get(self, path: str, timeout_s: float) -> Response:
        """Send a GET and read the whole answer; the time-out is for each wait for bytes."""
        request = h11.Request(method="GET", target=path, headers=[("host", self._host)])
        with _named("read_timeout", timeout_s):
            await self._stream.send_all(self._http.send(request) or b"")
            self._http.send(h11.EndOfMessage())
        status, body, size, total = 0, bytearray(), 0, hashlib.sha256()
        while not isinstance(event := await self._next_event(timeout_s), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                status = event.status_code
                headers = dict(event.headers)
                self.node = headers.get(NODE_HEADER.encode(), b"").decode()
                self.seen_as = headers.get(CLIENT_HEADER.encode(), b"").decode()
            elif isinstance(event, h11.Data):
                data = bytes(event.data)
                total.update(data)
                size += len(data)
                body += data[: _BODY_KEPT - len(body)]
        with _named("read_timeout", timeout_s):
            self._http.start_next_cycle()
        return Response(
            status=status, node=self.node, size=size, sha256=total.hexdigest(), body=bytes(body)
        )

    async def get_verified(self, path: str, size: int, timeout_s: float) -> Response:
        """GET a path that must answer 200 with the first `size` bytes of the known stream."""
        response = await self.get(path, timeout_s)
        if response.status != 200:
            raise FetchError(f"status_{response.status}", path)
        if (response.size, response.sha256) != (size, payload.digest(size)):
            raise FetchError(
                "bad_content", f"{path}: {response.size} bytes are not those asked for"
            )
        return response

    async def open_echo(self, timeout_s: float) -> None:
        """Leave HTTP: the node sends back what `echo` sends from now on."""
        headers = [("host", self._host), ("connection", "upgrade"), ("upgrade", ECHO_PROTOCOL)]
        request = h11.Request(method="GET", target="/echo", headers=headers)
        with _named("read_timeout", timeout_s):
            data = self._http.send(request) or b""
            await self._stream.send_all(data + (self._http.send(h11.EndOfMessage()) or b""))
        answer = await self._next_event(timeout_s)
        if not isinstance(answer, h11.InformationalResponse) or answer.status_code != 101:
            raise FetchError("bad_http", "the server does not change to echo")
        self.node = dict(answer.headers).get(NODE_HEADER.encode(), b"").decode()

    def detach(self) -> socket.socket:
        """Return the socket, which is the caller's from now on; nothing else works any more."""
        return socket.socket(fileno=self._stream.socket.detach())

    async def rest(self, seconds: float) -> None:
        """Wait, and fail the moment that the server closes or breaks the connection."""
        with trio.move_on_after(seconds):
            with _named("read_timeout", seconds + 1):
                data = await self._stream.receive_some(1)
            if data:
                raise FetchError("bad_http", "an answer that nobody asked for")
            raise FetchError("closed", "the server closed an idle connection")

    @property
    def seen_as_itself(self) -> bool | None:
        """Whether the node saw the address that this end has; None while it has not told."""
        if not self.seen_as:
            return None
        try:
            return bool(self._stream.socket.getsockname()[0] == self.seen_as)
        except OSError:
            return None

    async def aclose(self) -> None:
        """Close the connection at once."""
        await trio.aclose_forcefully(self._stream)

    async def _next_event(self, timeout_s: float) -> object:
        while True:
            with _named("read_timeout", timeout_s):
                event = self._http.next_event()
                if event is not h11.NEED_DATA:
                    break
                data = await self._stream.receive_some(_READ_SIZE)
                if not data:
                    raise FetchError("closed", "the server closed the connection")
                self._http.receive_data(data)
        return event


@contextmanager
def _named(on_timeout: str, timeout_s: float) -> Iterator[None]:
    try:
        with trio.fail_after(timeout_s):
            yield
    except trio.TooSlowError:
        raise FetchError(on_timeout, f"after {timeout_s:g} s") from None
    except trio.BrokenResourceError as error:
        cause = error.__cause__
        raise FetchError(cause_of(cause if isinstance(cause, OSError) else None)) from None
    except OSError as error:
        raise FetchError(cause_of(error), str(error)) from None
    except h11.ProtocolError as error:
        raise FetchError("bad_http", str(error)) from None


def cause_of(error: OSError | None) -> str:
    """Return an error of a socket in one word."""
    if error is None or error.errno is None:
        return "reset"
    return _CAUSES.get(error.errno, f"errno_{error.errno}")
