# SPDX-License-Identifier: Apache-2.0
"""What a picture of `galelb top` shows, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

__all__ = ["Drop", "Frame", "Happening", "NodeRow", "Rate", "Sample", "ServiceRow"]

Json = Mapping[str, Any]


@attrs.frozen(kw_only=True)
class Sample:
    """What the API said at one moment."""

    at: float
    """Seconds of a clock that never jumps."""
    status: Json
    nodes: Sequence[Json]
    services: Sequence[Json]
    events: Sequence[Json] = ()
    """Oldest first."""


@attrs.frozen
class Rate:
    """Traffic between two samples."""

    packets: float
    """Per second."""
    bits: float
    """Per second, of whole frames."""


@attrs.frozen(kw_only=True)
class NodeRow:
    """A node; `rate` is None when it is not known (a first sample, counters made anew)."""

    name: str
    state: str
    draining: bool
    takes_new_flows: bool
    weight: float
    rate: Rate | None
    history: tuple[float | None, ...]
    """Packets per second, the latest last; None where unknown."""
    note: str = ""


@attrs.frozen(kw_only=True)
class ServiceRow:
    """A service with its traffic to nodes."""

    name: str
    address: str
    nodes: int
    """That get new flows."""
    rate: Rate | None
    history: tuple[float | None, ...]


@attrs.frozen
class Drop:
    """Packets dropped for one reason."""

    reason: str
    per_s: float


@attrs.frozen
class Happening:
    """An event as a line; `at` is the time of day, "HH:MM:SS"."""

    at: str
    text: str


@attrs.frozen(kw_only=True)
class Frame:
    """One picture; `trouble` says why it is not of now, and is empty when it is."""

    instance: str
    version: str
    uptime_s: float
    problem: str
    """Why clients are not served; empty when they are."""
    total: Rate | None
    flows: int
    lag_s: float
    nodes: tuple[NodeRow, ...]
    services: tuple[ServiceRow, ...]
    drops: tuple[Drop, ...]
    """Of the last interval, most first; none is empty."""
    events: tuple[Happening, ...]
    """The latest first."""
    trouble: str = ""
