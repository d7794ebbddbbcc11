# SPDX-License-Identifier: Apache-2.0
"""Describe metrics once, count durations, and make samples of both; for the core and plugins."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from math import inf
from typing import Literal

import attrs

from galelb.model import Metric

__all__ = ["DURATIONS_S", "Histogram", "MetricFamily"]

DURATIONS_S = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    5,
)
"""Upper bounds that suit what may take from a tenth of a millisecond to some seconds."""


class Histogram:
    """Observations by size, since it was made. Not thread safe."""

    def __init__(self, bounds: Sequence[float] = DURATIONS_S) -> None:
        """`bounds` are the inclusive upper bounds of buckets, rising."""
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    @property
    def sum(self) -> float:
        """All values together."""
        return self._sum

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self._counts)

    def buckets(self) -> tuple[tuple[float, int], ...]:
        """Return (upper bound, values up to it); the last bound is infinite."""
        return tuple(zip((*self._bounds, inf), accumulate(self._counts), strict=True))


@attrs.frozen(kw_only=True)
class MetricFamily:
    """All metrics of one name; by Prometheus' conventions for names, units and labels."""

    name: str
    help: str
    kind: Literal["counter", "gauge", "histogram"] = "gauge"
    labels: tuple[str, ...] = ()

    def sample(self, value: float | Histogram, *labels: str) -> Metric:
        """Return one metric of a counter or gauge, or of a Histogram; labels in order."""
        named = dict(zip(self.labels, labels, strict=True))
        if isinstance(value, Histogram):
            buckets = value.buckets()
            return Metric(
                name=self.name,
                help=self.help,
                value=value.sum,
                labels=named,
                kind=self.kind,
                buckets=buckets,
            )
        return Metric(name=self.name, help=self.help, value=value, labels=named, kind=self.kind)
