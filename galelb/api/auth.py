# SPDX-License-Identifier: Apache-2.0
"""Who may change a running balancer: whoever reaches its socket file, or holds its token."""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
import stat
from pathlib import Path
from typing import Protocol

from galelb.errors import ApiError

__all__ = [
    "TOKEN_FILE",
    "AllowAll",
    "Authoriser",
    "BearerToken",
    "load_or_create_token",
    "load_or_create_token_file",
]

TOKEN_FILE = "api.token"  # noqa: S105 - the name of the file, not a token
MIN_TOKEN_CHARS = 32
MAX_TOKEN_CHARS = 1024


class Authoriser(Protocol):
    """Decides whether a request may change something."""

    def allows(self, authorization: str | None) -> bool:
        """Judge the value of the Authorization header (None = the header is absent)."""


class AllowAll:
    """For the unix socket: its file mode already lets nobody but root in."""

    def allows(self, authorization: str | None) -> bool:
        """Return True."""
        del authorization
        return True


class BearerToken:
    """For TCP: `Authorization: Bearer <token>`, compared in constant time."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    def allows(self, authorization: str | None) -> bool:
        """Return whether the header carries our token."""
        scheme, _, value = (authorization or "").partition(" ")
        # Header values are latin-1; anything else cannot equal a token of ours.
        given = value.strip().encode("latin-1", "replace")
        return hmac.compare_digest(given, self._token) and scheme.lower() == "bearer"

    def __repr__(self) -> str:
        return "BearerToken(...)"


def load_or_create_token(directory: Path) -> str:
    """Return the token in `<directory>/api.token`, made on first use and kept across restarts.

    The file is only ever readable by its owner. Raises ApiError when it cannot be used.
    """
    return load_or_create_token_file(directory / TOKEN_FILE)


def load_or_create_token_file(path: Path) -> str:
    """Return the token in any file, as `load_or_create_token` does."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_symlink() and not path.exists():
            _create(path)
        return _load(path)
    except OSError as error:
        raise ApiError(f"cannot use the API's token file {path}: {error.strerror}") from error


def _create(path: Path) -> None:
    """Write a new token so that a crash leaves either no file or a whole one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
        # link, not rename: whoever was first wins, and both read the same token.
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(temporary)
    finally:
        temporary.unlink()


def _load(path: Path) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(fd, encoding="ascii", errors="replace") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise ApiError(f"the API's token file {path} is not a regular file: remove it")
        if status.st_uid != os.geteuid():
            raise ApiError(f"the API's token file {path} belongs to another user: remove it")
        if stat.S_IMODE(status.st_mode) != 0o600:
            os.fchmod(fd, 0o600)
        token = file.read(MAX_TOKEN_CHARS + 1).strip()
    if not (MIN_TOKEN_CHARS <= len(token) <= MAX_TOKEN_CHARS and _is_header_safe(token)):
        raise ApiError(
            f"the API's token file {path} holds no usable token (one line, "
            f"{MIN_TOKEN_CHARS} to {MAX_TOKEN_CHARS} letters, digits or -._~+/=): "
            "remove it and a new one is made at the next start"
        )
    return token


def _is_header_safe(token: str) -> bool:
    return token.isascii() and all(c.isalnum() or c in "-._~+/=" for c in token)
