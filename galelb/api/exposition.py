# SPDX-License-Identifier: Apache-2.0
"""Write metrics in Prometheus' text format."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import inf

import structlog
from prometheus_client import Metric as Family
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from galelb.model import Metric

__all__ = ["CONTENT_TYPE", "exposition"]

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
KINDS = ("gauge", "counter", "histogram")
NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")

log = structlog.get_logger()


class _Collected:
    """What `generate_latest` asks of a registry."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families


def exposition(metrics: Sequence[Metric]) -> bytes:
    """Return the page for a scrape, in the order of first appearance; pure, but slow for many.

    A sample that would spoil the page (bad name, kind or label, told twice) is left out and
    logged: one plugin must not take the others' metrics away.
    """
    families: dict[str, Family] = {}
    seen: set[tuple[str, frozenset[tuple[str, str]]]] = set()
    for metric in metrics:
        # Counters are called *_total on the page whatever their author called them.
        base = metric.name.removesuffix("_total") if metric.kind == "counter" else metric.name
        family = families.get(base)
        key = (base, frozenset(metric.labels.items()))
        problem = _problem(metric, family) or ("told twice" if key in seen else "")
        if problem:
            log.warning("metric_left_out", metric=metric.name, problem=problem)
            continue
        seen.add(key)
        if family is None:
            family = families[base] = Family(base, metric.help, metric.kind)
        _add(family, metric)
    return generate_latest(_Collected(families.values()))


def _add(family: Family, metric: Metric) -> None:
    name, labels = family.name, metric.labels
    if metric.kind != "histogram":
        suffix = "_total" if metric.kind == "counter" else ""
        family.add_sample(f"{name}{suffix}", labels, metric.value)
        return
    for bound, count in metric.buckets:
        family.add_sample(f"{name}_bucket", {**labels, "le": _bound(bound)}, count)
    family.add_sample(f"{name}_count", labels, metric.buckets[-1][1])
    family.add_sample(f"{name}_sum", labels, metric.value)


def _bound(bound: float) -> str:
    return "+Inf" if bound == inf else str(float(bound))


def _problem(metric: Metric, family: Family | None) -> str:
    if metric.kind not in KINDS:
        return f"kind {metric.kind!r} is none of {', '.join(KINDS)}"
    if not NAME.fullmatch(metric.name):
        return "not a metric name"
    if not all(LABEL.fullmatch(label) for label in metric.labels):
        return "not a label name"
    # The types promise both, but a plugin's code may break the promise.
    if not all(isinstance(text, str) for text in metric.labels.values()):
        return "a label's value is not text"
    if not isinstance(metric.value, int | float):
        return "its value is not a number"
    if (metric.kind == "histogram") is not _whole(metric.buckets):
        return "a histogram needs rising buckets up to infinity, and nothing else has any"
    if family is not None and family.type != metric.kind:
        return f"is a {family.type} elsewhere"
    return ""


def _whole(buckets: Sequence[tuple[float, int]]) -> bool:
    numbers = all(isinstance(n, int | float) for pair in buckets for n in pair)
    return (
        bool(buckets)
        and numbers
        and buckets[-1][0] == inf
        and all(below[0] < above[0] and below[1] <= above[1] for below, above in pairwise(buckets))
    )
