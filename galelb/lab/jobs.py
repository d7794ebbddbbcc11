# SPDX-License-Identifier: Apache-2.0
"""What a load generator is told to do, and what it tells: values that travel as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs

from galelb.lab.http_client import Target

__all__ = [
    "CONNECT_TIMEOUT_S",
    "READ_TIMEOUT_S",
    "Downloads",
    "Held",
    "Job",
    "Queries",
    "Requests",
    "Result",
    "jobs_from_json",
    "jobs_to_json",
]

CONNECT_TIMEOUT_S = 1.0
READ_TIMEOUT_S = 2.0

_MOST_WORKERS = 10_000


def _targets(values: Any) -> tuple[Target, ...]:
    targets = (value if isinstance(value, Target) else Target(**value) for value in values)
    return tuple(targets)


_workers = attrs.validators.and_(attrs.validators.ge(0), attrs.validators.le(_MOST_WORKERS))


@attrs.frozen(kw_only=True)
class Requests:
    """Closed loop: each worker sends the next request when the last one is answered."""

    targets: tuple[Target, ...] = attrs.field(converter=_targets)
    fresh: int = attrs.field(default=8, validator=_workers)
    """Workers that open a new connection for each request."""
    kept: int = attrs.field(default=0, validator=_workers)
    """Workers that use one connection for as long as it lasts."""
    count: int | None = None
    """How many requests in all; None = until stopped."""
    pause_s: float = 0.0
    """Rest of a worker between two requests."""
    kept_pause_s: float | None = None
    """The same for workers that keep their connection; None = as the others."""
    size: int = 1024
    """Bytes asked for."""
    connect_timeout_s: float = CONNECT_TIMEOUT_S
    read_timeout_s: float = READ_TIMEOUT_S


@attrs.frozen(kw_only=True)
class Downloads:
    """Long transfers, each on a connection of its own and verified to the last byte."""

    targets: tuple[Target, ...] = attrs.field(converter=_targets)
    parallel: int = attrs.field(default=1, validator=_workers)
    size: int = 1 << 20
    rate: int | None = None
    """Bytes a second for each; None = as fast as it goes."""
    count: int | None = 1
    """How many in all; None = until stopped."""
    connect_timeout_s: float = CONNECT_TIMEOUT_S
    read_timeout_s: float = READ_TIMEOUT_S


@attrs.frozen(kw_only=True)
class Held:
    """Many connections opened at first and held open, each with a message now and then.

    The node sends each message back: data goes both ways, and what a connection waited longest
    for an answer is its stall.
    """

    targets: tuple[Target, ...] = attrs.field(converter=_targets)
    connections: int = attrs.field(default=1000, validator=_workers)
    duration_s: float = 60.0
    """From when all of them are open."""
    every_s: float = 10.0
    """How often each connection is used, which proves that it is alive at both ends."""
    read_timeout_s: float = 10.0
    """It is broken when a message is not back by then."""


@attrs.frozen(kw_only=True)
class Queries:
    """UDP queries, each from a socket of its own; nothing is sent twice."""

    targets: tuple[Target, ...] = attrs.field(converter=_targets)
    count: int = 1000
    parallel: int = attrs.field(default=16, validator=_workers)
    timeout_s: float = READ_TIMEOUT_S


Job = Requests | Downloads | Held | Queries
_KINDS: Mapping[str, type[Job]] = {
    "requests": Requests,
    "downloads": Downloads,
    "held": Held,
    "queries": Queries,
}


@attrs.frozen(kw_only=True)
class Result:
    """What became of one request, download, held connection or query."""

    kind: str
    """request, download, held or query; opened when all connections to be held are open."""
    start: float
    """Monotonic clock, which all processes of a machine share; seconds."""
    end: float
    target: str
    node: str = ""
    """Who answered; empty when nobody did."""
    error: str | None = None
    """The cause of the failure in one word; None = success."""
    size: int = 0
    seen_as_itself: bool | None = None
    """Whether the node saw the client's own address; None where that is not known."""
    stall_s: float = 0.0
    """Of a held connection: the longest that a message took there and back."""

    def to_json(self) -> str:
        """Return one line without its end."""
        return json.dumps(attrs.asdict(self))

    @classmethod
    def from_json(cls, line: str | bytes) -> Result:
        """Read a line back."""
        return cls(**json.loads(line))


def jobs_to_json(jobs: list[Job]) -> str:
    """Return jobs as the one argument of the load generator."""
    names = {kind: name for name, kind in _KINDS.items()}
    return json.dumps([[names[type(job)], attrs.asdict(job)] for job in jobs])


def jobs_from_json(text: str) -> list[Job]:
    """Read back what `jobs_to_json` wrote."""
    return [_KINDS[name](**values) for name, values in json.loads(text)]
