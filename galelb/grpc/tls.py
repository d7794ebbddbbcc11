# SPDX-License-Identifier: Apache-2.0
"""TLS for gRPC: contexts from files, and what is wrong with files and connections in words.

No text made here holds anything of what a file contains.
"""

from __future__ import annotations

import datetime as dt
import ssl
import stat
from pathlib import Path

import attrs

from galelb.errors import GaleError
from galelb.grpc.certificate import NotACertificateError, expires_at

__all__ = [
    "FileProblemError",
    "TlsFiles",
    "client_context",
    "expiry_warning",
    "read_secret",
    "server_context",
    "tls_reason",
]

_SOON = dt.timedelta(days=14)
_LARGEST_FILE = 1 << 20
_REASONS = {
    "CERTIFICATE_EXPIRED": "its certificate has expired",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it showed no certificate",
    "HTTP_REQUEST": "it does not speak TLS",
    "HTTPS_PROXY_REQUEST": "it does not speak TLS",
    "NO_SHARED_CIPHER": "no cipher in common",
    "UNSUPPORTED_PROTOCOL": "no version of TLS in common",
    "WRONG_VERSION_NUMBER": "it does not speak TLS",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it refused our certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it says that our certificate has expired",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it refused our certificate",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it wants a certificate of ours (tls_cert, tls_key)",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not know the authority that signed our certificate",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "it wants a certificate of ours, or no cipher is in common",
}


class FileProblemError(GaleError):
    """A file of a TLS or token setting cannot be used; `key` is the setting."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key


@attrs.frozen(kw_only=True)
class TlsFiles:
    """PEM files: a certificate (chain), its key, and whom to trust on the other side."""

    cert: Path | None
    key: Path | None
    ca: Path


def server_context(files: TlsFiles, ca_key: str = "tls_client_ca") -> ssl.SSLContext:
    """Return what a server needs that wants certificates of its clients. Blocks on the disk.

    Raises:
        FileProblemError: a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    context.num_tickets = 0  # connections are long; resuming one saves nothing
    return _filled(context, files, ca_key)


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """Return what a client needs. Blocks on the disk.

    Raises:
        FileProblemError: a file cannot be used.
    """
    return _filled(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), files, "tls_ca")


def _filled(context: ssl.SSLContext, files: TlsFiles, ca_key: str) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(["h2"])
    _check_certificate(_text(ca_key, files.ca), ca_key, files.ca)
    try:
        context.load_verify_locations(files.ca)
    except ssl.SSLError as error:
        raise FileProblemError(ca_key, f"{files.ca}: holds no usable certificate") from error
    if files.cert is not None and files.key is not None:
        _load_pair(context, files.cert, files.key)
    return context


def _load_pair(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    _check_certificate(_text("tls_cert", cert), "tls_cert", cert)
    if "PRIVATE KEY-----" not in _secret_text("tls_key", key):
        raise FileProblemError("tls_key", f"{key}: holds no private key in PEM form")
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            text = f"{key}: is not the key of the certificate in {cert}"
        else:
            text = f"{key}: cannot be used with the certificate in {cert}: {tls_reason(error)}"
        raise FileProblemError("tls_key", text) from error
    except _EncryptedKeyError:
        text = f"{key}: is encrypted; galelb cannot ask for a password, so store it without"
        raise FileProblemError("tls_key", text) from None


class _EncryptedKeyError(Exception):
    """OpenSSL wants a password."""


def _no_password() -> str:
    raise _EncryptedKeyError


def _check_certificate(text: str, key: str, path: Path) -> None:
    try:
        end = expires_at(text)
    except NotACertificateError:
        raise FileProblemError(key, f"{path}: holds no certificate in PEM form") from None
    if end <= dt.datetime.now(dt.UTC):
        raise FileProblemError(key, f"{path}: its certificate expired on {end:%Y-%m-%d}")


def expiry_warning(path: Path) -> str:
    """Return a sentence if the certificate of a file ends within two weeks, else nothing."""
    try:
        end = expires_at(path.read_text())
    except (OSError, ValueError, NotACertificateError):
        return ""
    near = end - dt.datetime.now(dt.UTC) < _SOON
    return f"the certificate in {path} expires on {end:%Y-%m-%d}" if near else ""


def read_secret(key: str, path: Path, *, shortest: int) -> str:
    """Return the one line of a file that not everybody may read.

    Raises:
        FileProblemError: it cannot be read, everybody can read it, or it is no such line.
    """
    secret = _secret_text(key, path).strip()
    if len(secret) < shortest:
        raise FileProblemError(key, f"{path}: needs at least {shortest} characters")
    if not (secret.isascii() and secret.isprintable()) or " " in secret:
        raise FileProblemError(key, f"{path}: must be one line of ASCII without spaces")
    return secret


def _secret_text(key: str, path: Path) -> str:
    text = _text(key, path)
    if path.stat().st_mode & stat.S_IROTH:
        raise FileProblemError(key, f"{path}: everybody can read this secret: chmod o= {path}")
    return text


def _text(key: str, path: Path) -> str:
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise FileProblemError(key, f"{path}: is larger than 1 MiB")
        return path.read_text()
    except OSError as error:
        raise FileProblemError(key, f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError:
        raise FileProblemError(key, f"{path}: is not text in PEM form") from None


def tls_reason(error: ssl.SSLError) -> str:
    """Return in words why a connection with TLS broke; "it" is the other side."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message}"
    if isinstance(error, ssl.SSLEOFError):
        return "it hung up while keys were agreed on"
    reason = error.reason or ""
    return _REASONS.get(reason, reason.replace("_", " ").lower() or "TLS failed")
