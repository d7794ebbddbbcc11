# SPDX-License-Identifier: Apache-2.0
"""Durations as people write them ("5s", "1m30s"), and seconds as the code wants them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import BeforeValidator, ValidationInfo

__all__ = ["Duration", "format_duration", "is_duration", "parse_duration"]

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)", re.ASCII)
_WHOLE = re.compile(rf"(?:{_PART.pattern})+", re.ASCII)
_LONGEST_TEXT = 64
_LONGEST_S = 100 * 365 * 24 * 3600.0
_HOW = 'use a number and a unit (ns us ms s m h), such as "5s" or "1m30s"'


def parse_duration(text: str) -> float:
    """Return the seconds that a Go-style duration such as "300ms" or "1m30s" means.

    Raises ValueError, with a message for people, on anything else: negative values, values
    without a unit (but "0" is fine), and more than a hundred years.
    """
    if text == "0":
        return 0.0
    if len(text) > _LONGEST_TEXT or _WHOLE.fullmatch(text) is None:
        raise ValueError(f"bad duration {text[:_LONGEST_TEXT]!r}: {_HOW}")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _parts(text))
    if seconds > _LONGEST_S:
        raise ValueError(f"bad duration {text!r}: longer than a hundred years")
    return round(seconds, 9)


def _parts(text: str) -> list[tuple[str, str]]:
    return [(match[1], match[2]) for match in _PART.finditer(text)]


def format_duration(seconds: float) -> str:
    """Return seconds in the shortest usual form, for example "5m", "1m30s" or "300ms"."""
    nanoseconds = round(seconds * 1e9)
    if nanoseconds < 10**9:
        return _format_fraction(nanoseconds)
    whole, fraction = divmod(nanoseconds, 10**9)
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    text = f"{hours}h" * (hours > 0) + f"{minutes}m" * (minutes > 0)
    if fraction:
        return text + f"{left}.{fraction:09d}".rstrip("0") + "s"
    return text + f"{left}s" * (left > 0)


def _format_fraction(nanoseconds: int) -> str:
    for unit, size in (("ms", 10**6), ("us", 10**3), ("ns", 1)):
        if nanoseconds and nanoseconds % size == 0:
            return f"{nanoseconds // size}{unit}"
    return "0s"


def _from_file(value: object, info: ValidationInfo) -> object:
    """Read text; a bare number is only fine in Python, where it can only mean seconds."""
    if isinstance(value, str):
        return parse_duration(value)
    if info.mode == "json":
        raise ValueError(f"bad duration {value!r}: {_HOW}")
    return value


_READER = BeforeValidator(_from_file)
Duration = Annotated[float, _READER]
"""A field of a configuration: a Go-style duration in the file, seconds in the code."""


def is_duration(metadata: Iterable[object]) -> bool:
    """Return whether the metadata of an annotation or a field is that of a Duration."""
    return any(item is _READER for item in metadata)
