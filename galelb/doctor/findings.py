# SPDX-License-Identifier: Apache-2.0
"""What a check found."""

from __future__ import annotations

import enum

import attrs

__all__ = ["Finding", "Level", "fail", "ok", "warn"]


class Level(enum.StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    """It may work, but look at it."""
    FAIL = "fail"
    """It does not work so."""


@attrs.frozen
class Finding:
    """The outcome of one check."""

    name: str
    """What was looked at; of several interfaces, addresses ... each has its own."""
    level: Level
    text: str
    """One sentence."""
    mend: str = ""
    """The command that mends it, where one does."""


def ok(name: str, text: str) -> Finding:
    """Return that all is well."""
    return Finding(name, Level.OK, text)


def warn(name: str, text: str, mend: str = "") -> Finding:
    """Return something to look at."""
    return Finding(name, Level.WARN, text, mend)


def fail(name: str, text: str, mend: str = "") -> Finding:
    """Return something that keeps packets from arriving."""
    return Finding(name, Level.FAIL, text, mend)
