# SPDX-License-Identifier: Apache-2.0
"""Byte streams under a link: they can be written to without waiting, which saves task switches."""

from __future__ import annotations

import socket
import ssl
from typing import Protocol

import trio

from galelb.grpc.tls import tls_reason

__all__ = ["Pipe", "SocketPipe", "StreamPipe", "TlsPipe", "take_over"]

_RECEIVE_BYTES = 16 * 1024


class Pipe(Protocol):
    """What a link needs. All may raise trio.BrokenResourceError or trio.ClosedResourceError."""

    async def receive_some(self, max_bytes: int) -> bytes:
        """Return what came; empty when the other side is done."""

    def write(self, data: bytes) -> bool:
        """Take all of `data`; returns whether all has left, else `drain` must be called."""

    async def drain(self) -> None:
        """Wait until all has left."""

    async def aclose(self) -> None:
        """Close at once."""


class StreamPipe:
    """Any trio stream."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._out = bytearray()

    async def receive_some(self, max_bytes: int) -> bytes:
        """Return what came."""
        return bytes(await self._stream.receive_some(max_bytes))

    def write(self, data: bytes) -> bool:
        """Take all; nothing leaves before `drain`."""
        self._out += data
        return not self._out

    async def drain(self) -> None:
        """Send what was taken."""
        while self._out:
            data, self._out = self._out, bytearray()
            await self._stream.send_all(data)

    async def aclose(self) -> None:
        """Close at once."""
        await trio.aclose_forcefully(self._stream)


class SocketPipe:
    """A TCP connection; owns the socket."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._out = bytearray()

    async def receive_some(self, max_bytes: int) -> bytes:
        """Return what came."""
        while True:
            self._require_open()
            await trio.lowlevel.wait_readable(self._sock)
            try:
                return self._sock.recv(max_bytes)
            except BlockingIOError:
                continue
            except OSError as error:
                raise trio.BrokenResourceError(error.strerror or str(error)) from error

    def write(self, data: bytes) -> bool:
        """Take all, and send as much as the kernel takes now."""
        self._require_open()
        self._out += data
        return self._push()

    async def drain(self) -> None:
        """Wait until the kernel has taken all."""
        while not self._push():
            await trio.lowlevel.wait_writable(self._sock)

    def hang_up(self) -> None:
        """Say that nothing more will be sent."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            return

    async def aclose(self) -> None:
        """Close at once."""
        if self._sock.fileno() != -1:
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()
        await trio.lowlevel.checkpoint()

    def _require_open(self) -> None:
        if self._sock.fileno() == -1:
            raise trio.ClosedResourceError("closed here")

    def _push(self) -> bool:
        if not self._out:
            return True
        self._require_open()
        try:
            del self._out[: self._sock.send(self._out)]
        except BlockingIOError:
            return False
        except OSError as error:
            raise trio.BrokenResourceError(error.strerror or str(error)) from error
        return not self._out


class TlsPipe(SocketPipe):
    """A TCP connection with TLS; call `handshake` first.

    Unlike trio.SSLStream it sends the alert that tells the other side why it was refused.
    """

    def __init__(
        self, sock: socket.socket, context: ssl.SSLContext, *, server_name: str | None = None
    ) -> None:
        """Be the client of the server `server_name`, or without one the server."""
        super().__init__(sock)
        self._encrypted_in, self._encrypted_out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._encrypted_in,
            self._encrypted_out,
            server_side=server_name is None,
            server_hostname=server_name,
        )

    async def handshake(self) -> None:
        """Agree on keys, and on HTTP/2.

        Raises:
            trio.BrokenResourceError: refused by either side, with a reason for people.
        """
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._send_encrypted()
                await self._receive_encrypted()
            except ssl.SSLError as error:
                await self._send_encrypted()  # the alert
                self.hang_up()
                raise trio.BrokenResourceError(tls_reason(error)) from error
            else:
                await self._send_encrypted()
                break
        if self._tls.selected_alpn_protocol() != "h2":
            self.hang_up()
            raise trio.BrokenResourceError("the other side does not offer HTTP/2 (ALPN h2)")

    async def receive_some(self, max_bytes: int) -> bytes:
        """Return what came, decrypted."""
        while True:
            try:
                return self._tls.read(max_bytes)
            except ssl.SSLWantReadError:
                await self._receive_encrypted()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""
            except ssl.SSLError as error:
                raise trio.BrokenResourceError(tls_reason(error)) from error

    def write(self, data: bytes) -> bool:
        """Take all, encrypt it, and send as much as the kernel takes now."""
        try:
            self._tls.write(data)
        except ssl.SSLError as error:
            raise trio.BrokenResourceError(tls_reason(error)) from error
        return super().write(self._encrypted_out.read())

    async def linger(self) -> None:
        """Read and forget what comes, so that closing does not cut off what was sent last."""
        try:
            while await SocketPipe.receive_some(self, _RECEIVE_BYTES):
                pass
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return

    async def _send_encrypted(self) -> None:
        if not SocketPipe.write(self, self._encrypted_out.read()):
            await self.drain()

    async def _receive_encrypted(self) -> None:
        data = await SocketPipe.receive_some(self, _RECEIVE_BYTES)
        if data:
            self._encrypted_in.write(data)
        else:
            self._encrypted_in.write_eof()


def take_over(stream: trio.SocketStream) -> socket.socket:
    """Return the socket of a trio stream, which is closed by that."""
    return socket.socket(fileno=stream.socket.detach())
