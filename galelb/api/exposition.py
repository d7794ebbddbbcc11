# SPDX-License-Identifier: Apache-2.0
"""Write metrics in Prometheus' text format."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from math import inf, isfinite, isnan

import attrs
import structlog

from galelb.model import Metric

__all__ = ["CONTENT_TYPE", "exposition"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
KINDS = ("gauge", "counter", "histogram")
NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")

log = structlog.get_logger()


@attrs.define
class _Family:
    """The metrics of one name; `name` is without _total."""

    name: str
    kind: str
    lines: list[str]


def exposition(metrics: Sequence[Metric]) -> bytes:
    """Return the page for a scrape, in the order of first appearance; pure, but slow for many.

    A sample that would spoil the page (bad name, kind or label, told twice) is left out and
    logged: one plugin must not take the others' metrics away.
    """
    families: dict[str, _Family] = {}
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
            family = families[base] = _Family(base, metric.kind, _head(base, metric))
        family.lines += _samples(base, metric)
    lines = [line for family in families.values() for line in family.lines]
    return "".join(lines).encode(errors="replace")


def _head(base: str, metric: Metric) -> list[str]:
    name = f"{base}_total" if metric.kind == "counter" else base
    text = metric.help.replace("\\", r"\\").replace("\n", r"\n")
    return [f"# HELP {name} {text}\n", f"# TYPE {name} {metric.kind}\n"]


def _samples(base: str, metric: Metric) -> Iterator[str]:
    # Written here and not by prometheus_client, which takes twice as long: a thousand nodes have
    # ten thousand samples, and whatever else the balancer does has to share the time.
    labels = [f'{name}="{_escaped(text)}"' for name, text in metric.labels.items()]
    plain = _braced(labels)
    if metric.kind != "histogram":
        suffix = "_total" if metric.kind == "counter" else ""
        yield f"{base}{suffix}{plain} {_number(metric.value)}\n"
        return
    for bound, count in metric.buckets:
        bucket = _braced([*labels, f'le="{_number(bound)}"'])
        yield f"{base}_bucket{bucket} {_number(count)}\n"
    yield f"{base}_count{plain} {_number(metric.buckets[-1][1])}\n"
    yield f"{base}_sum{plain} {_number(metric.value)}\n"


def _braced(labels: list[str]) -> str:
    return f"{{{','.join(labels)}}}" if labels else ""


def _escaped(text: str) -> str:
    if text.isalnum():
        return text
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    if isfinite(value):
        return str(float(value))
    return "NaN" if isnan(value) else "+Inf" if value > 0 else "-Inf"


@lru_cache(1024)
def _is_name(text: str) -> bool:
    return NAME.fullmatch(text) is not None


@lru_cache(1024)
def _is_label(text: str) -> bool:
    return LABEL.fullmatch(text) is not None


def _problem(metric: Metric, family: _Family | None) -> str:
    if metric.kind not in KINDS:
        return f"kind {metric.kind!r} is none of {', '.join(KINDS)}"
    if not _is_name(metric.name):
        return "not a metric name"
    if not all(map(_is_label, metric.labels)):
        return "not a label name"
    # The types promise both, but a plugin's code may break the promise.
    if not all(isinstance(text, str) for text in metric.labels.values()):
        return "a label's value is not text"
    if not isinstance(metric.value, int | float):
        return "its value is not a number"
    histogram = metric.kind == "histogram"
    if (histogram or metric.buckets) and not (histogram and _whole(metric.buckets)):
        return "a histogram needs rising buckets up to infinity, and nothing else has any"
    if family is not None and family.kind != metric.kind:
        return f"is a {family.kind} elsewhere"
    return ""


def _whole(buckets: Sequence[tuple[float, int]]) -> bool:
    numbers = all(isinstance(n, int | float) for pair in buckets for n in pair)
    return (
        bool(buckets)
        and numbers
        and buckets[-1][0] == inf
        and all(below[0] < above[0] and below[1] <= above[1] for below, above in pairwise(buckets))
    )
