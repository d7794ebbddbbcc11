# SPDX-License-Identifier: Apache-2.0
"""Check a page of metrics against Prometheus' conventions, as `promtool check metrics` does."""

from __future__ import annotations

import re
from collections.abc import Iterator

from prometheus_client import Metric as Family
from prometheus_client.parser import text_string_to_metric_families

__all__ = ["lint_metrics"]

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_KINDS = {"counter", "gauge", "histogram", "summary"}
_RESERVED = ("_total", "_count", "_sum", "_bucket", "_created")
_OTHER_UNITS = {
    *("ms", "us", "ns", "milliseconds", "microseconds", "nanoseconds", "sec", "secs"),
    *("minutes", "hours", "days", "kb", "kib", "mb", "mib", "gb", "kilobytes", "megabytes"),
    *("bits", "kbits", "percent", "pct", "millis", "micros", "nanos"),
}
_MOST_SERIES = 20_000
_LONGEST_LABEL = 128


def lint_metrics(page: str) -> list[str]:
    """Return what is wrong with a page in the text format, one sentence each; empty = fine.

    Raises ValueError when it is no such page.
    """
    # The parser adds what is missing, so this is looked for in the text.
    problems = [
        f"{name}: is a counter, whose name must end in _total"
        for name in re.findall(r"^# TYPE (\S+) counter$", page, re.MULTILINE)
        if not name.endswith("_total")
    ]
    seen: set[str] = set()
    for family in text_string_to_metric_families(page):
        problems += [f"{family.name}: {text}" for text in _problems(family)]
        if family.name in seen:
            problems.append(f"{family.name}: stands on the page twice")
        seen.add(family.name)
    return problems


def _problems(family: Family) -> Iterator[str]:
    yield from _name_problems(family)
    if not family.documentation.strip():
        yield "has no help"
    if family.type not in _KINDS:
        yield f"has no type, or an unknown one: {family.type}"
    yield from _sample_problems(family)


def _name_problems(family: Family) -> Iterator[str]:
    words = family.name.split("_")
    if not _NAME.fullmatch(family.name):
        yield "the name is not in snake_case"
    if family.name.endswith(_RESERVED):
        yield f"ends in a word that stands for something else than a {family.type}"
    if others := _OTHER_UNITS.intersection(words):
        yield f"has a unit that is no base unit: {', '.join(sorted(others))}"
    if _KINDS.intersection(words):
        yield "names its own type"


def _sample_problems(family: Family) -> Iterator[str]:
    if len(family.samples) > _MOST_SERIES:
        yield f"has {len(family.samples)} series"
    names = {tuple(sorted(set(s.labels) - {"le", "quantile"})) for s in family.samples}
    if len(names) > 1:
        yield f"has samples with different labels: {sorted(names)}"
    if family.type != "histogram" and any("le" in s.labels for s in family.samples):
        yield "has the label le, which is for histograms"
    for label in {label for s in family.samples for label in s.labels}:
        if not _NAME.fullmatch(label):
            yield f"the label {label} is not in snake_case"
    if any(len(text) > _LONGEST_LABEL for s in family.samples for text in s.labels.values()):
        yield "has a label value that is a whole text"
    if family.type == "counter" and any(s.value < 0 for s in family.samples):
        yield "is a counter below 0"
