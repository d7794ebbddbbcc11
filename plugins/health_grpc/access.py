# SPDX-License-Identifier: Apache-2.0
"""Who may report: nodes with a certificate, or with a shared token, or whoever can connect."""

from __future__ import annotations

import hmac
import ssl
from pathlib import Path

import attrs

from galelb.grpc.call import Call
from galelb.grpc.framing import CallError, StatusCode
from galelb.grpc.tls import TlsFiles, expiry_warning, read_secret, server_context

__all__ = ["OPEN_WARNING", "Access", "load_access"]

OPEN_WARNING = (
    "health_grpc: neither tls_* nor token_file is set, so whoever can connect to node_port can join"
    " as a node: set one of them, or let a firewall decide who connects"
)
_BEARER = b"Bearer "
_SHORTEST_TOKEN = 16


@attrs.frozen(kw_only=True)
class Access:
    """What is asked of nodes; holds secrets, so it is never shown."""

    tls: ssl.SSLContext | None = attrs.field(default=None, repr=False)
    token: bytes | None = attrs.field(default=None, repr=False)
    warning: str = ""
    """What an operator should know, a sentence."""

    @property
    def kind(self) -> str:
        """What is asked of nodes, in a word for logs."""
        return "tls" if self.tls else "token" if self.token else "none"

    def check(self, call: Call) -> None:
        """Let a call with the right token pass, or any if none is wanted.

        Raises:
            CallError: UNAUTHENTICATED.
        """
        if self.token is None:
            return
        given = call.headers.get(b"authorization", b"")
        if not given:
            text = "this balancer wants a token (node.toml: load_balancer.token_file)"
            raise CallError(StatusCode.UNAUTHENTICATED, text)
        if not hmac.compare_digest(given, _BEARER + self.token):
            raise CallError(StatusCode.UNAUTHENTICATED, "the token is not the balancer's")


def load_access(
    cert: Path | None, key: Path | None, client_ca: Path | None, token_file: Path | None
) -> Access:
    """Read the files of the settings. Blocks on the disk.

    Raises:
        FileProblemError: a file cannot be used; names the setting.
    """
    if cert is not None and client_ca is not None:
        context = server_context(TlsFiles(cert=cert, key=key, ca=client_ca))
        return Access(tls=context, warning=expiry_warning(cert))
    if token_file is not None:
        return Access(token=read_token(token_file))
    return Access(warning=OPEN_WARNING)


def read_token(path: Path) -> bytes:
    """Return the token in a file."""
    return read_secret("token_file", path, shortest=_SHORTEST_TOKEN).encode()
