# SPDX-License-Identifier: Apache-2.0
"""How a node and a balancer know each other: certificates, or a shared token."""

from __future__ import annotations

import trio

from galelb.config.node import LoadBalancerSection
from galelb.grpc.framing import Headers
from galelb.grpc.pipes import Pipe, SocketPipe, TlsPipe, take_over
from galelb.grpc.tls import TlsFiles, client_context, read_secret

__all__ = ["Identity", "check_files"]


class Identity:
    """The files of `[load_balancer]`, read anew for each connection: new ones hold from then on."""

    def __init__(self, section: LoadBalancerSection) -> None:
        self._section = section

    @property
    def uses_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self._section.tls_ca is not None

    async def secure(self, stream: trio.abc.Stream, host: str) -> trio.abc.Stream | Pipe:
        """Return what to speak over; owns `stream`, also when it raises.

        Raises:
            FileProblemError: a file cannot be used.
            trio.BrokenResourceError: either side refused the other, with a reason for people.
        """
        if not isinstance(stream, trio.SocketStream):
            return stream
        sock = take_over(stream)
        if self._section.tls_ca is None:
            return SocketPipe(sock)
        try:
            context = client_context(_files(self._section))
            name = self._section.tls_server_name or host.rstrip(".")
            pipe = TlsPipe(sock, context, server_name=name)
            await pipe.handshake()
        except BaseException:
            sock.close()
            raise
        return pipe

    def metadata(self) -> Headers:
        """Return what every call carries. Raises FileProblemError."""
        path = self._section.token_file
        if path is None:
            return []
        token = read_secret("token_file", path, shortest=1)
        return [(b"authorization", b"Bearer " + token.encode())]


def check_files(section: LoadBalancerSection) -> None:
    """Read every file once. Raises FileProblemError."""
    if section.tls_ca is not None:
        client_context(_files(section))
    Identity(section).metadata()


def _files(section: LoadBalancerSection) -> TlsFiles:
    assert section.tls_ca is not None
    return TlsFiles(cert=section.tls_cert, key=section.tls_key, ca=section.tls_ca)
