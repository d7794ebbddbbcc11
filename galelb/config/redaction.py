# SPDX-License-Identifier: Apache-2.0
"""Knows which configuration values are secrets, by the name of their key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["REDACTED", "is_secret", "redact"]

REDACTED = "***"
_WORDS = ("key", "token", "secret", "password")
# The name of a file that holds a secret is no secret, and people need it to find the file.
_HARMLESS_ENDINGS = ("_file", "_path", "_dir")


def is_secret(path: Sequence[str | int]) -> bool:
    """Return whether the value under this key path must not be shown."""
    return any(_secret_name(part) for part in path if isinstance(part, str))


def redact(value: Any, path: tuple[str | int, ...] = ()) -> Any:
    """Return a copy of plain data with every secret replaced; absent values stay visible."""
    if is_secret(path):
        # Whether something is on, such as api_token_reads, tells no secret.
        harmless = isinstance(value, bool) or value in (None, "", [], {})
        return value if harmless else REDACTED
    if isinstance(value, dict):
        return {key: redact(item, (*path, str(key))) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact(item, (*path, index)) for index, item in enumerate(value)]
    return value


def _secret_name(name: str) -> bool:
    lower = name.lower()
    return any(word in lower for word in _WORDS) and not lower.endswith(_HARMLESS_ENDINGS)
