# SPDX-License-Identifier: Apache-2.0
"""The dashboard asks for metrics and labels that there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from galelb.control.metric_families import FAMILIES
from galelb.control.metrics import process_metrics

DASHBOARD = json.loads((Path(__file__).parent.parent / "grafana/galelb.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
OF_PROMETHEUS = {"instance", "job"}
HISTOGRAM = ("_bucket", "_count", "_sum")


def metrics() -> dict[str, set[str]]:
    """Return the labels of every series that a balancer has."""
    found: dict[str, set[str]] = {metric.name: set() for metric in process_metrics()}
    for family in FAMILIES:
        if family.kind == "histogram":
            found |= {f"{family.name}{end}": {*family.labels, "le"} for end in HISTOGRAM}
        else:
            found[family.name] = set(family.labels)
    return found


SERIES = metrics()


def queries() -> Iterator[tuple[str, str, str]]:
    for panel in PANELS:
        for target in panel["targets"]:
            yield panel["title"], target["expr"], target["legendFormat"]
    for variable in DASHBOARD["templating"]["list"][1:]:
        yield variable["name"], variable["definition"], ""


QUERIES = list(queries())


def named(query: str) -> set[str]:
    return set(re.findall(r"\b(?:galelb|process)_\w+", query))


@pytest.mark.parametrize(("title", "query", "legend"), QUERIES)
def test_queries_ask_for_what_there_is(title: str, query: str, legend: str) -> None:
    assert named(query), title
    assert set() == named(query) - SERIES.keys()
    labels = set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)\s*\"", query))
    for group in re.findall(r"\b(?:by|on|group_left)\s*\(([^)]*)\)", query):
        labels |= {label.strip() for label in group.split(",")}
    labels |= set(re.findall(r"{{(\w+)}}", legend))
    known = OF_PROMETHEUS.union(*(SERIES[name] for name in named(query)))

    assert labels - known in (set(), {"digests"})


@pytest.mark.parametrize(("title", "query", "legend"), QUERIES)
def test_counters_are_shown_as_rates_and_gauges_are_not(
    title: str, query: str, legend: str
) -> None:
    for name in named(query):
        counts = name.endswith(("_total", *HISTOGRAM))
        assert counts == bool(re.search(rf"rate\({name}\{{[^}}]*\}}\[\$__rate_interval\]", query))


def test_most_metrics_are_on_the_dashboard() -> None:
    """What is left out is so on purpose."""
    shown = set().union(*(named(query) for _, query, _ in QUERIES))
    missing = {
        family.name for family in FAMILIES if not any(one.startswith(family.name) for one in shown)
    }

    assert {
        "galelb_node_bytes_total",
        "galelb_lookup_table_slots",
        "galelb_plan_failures_total",
        "galelb_config_last_reload_success_timestamp_seconds",
        "galelb_api_event_streams",
        "galelb_capture_running",
    } == missing


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return (
        one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    )


def test_panels_have_places_and_numbers_of_their_own() -> None:
    panels: list[dict[str, Any]] = DASHBOARD["panels"]
    places = [panel["gridPos"] for panel in panels]

    assert len(panels) == len({panel["id"] for panel in panels})
    assert all(place["x"] + place["w"] <= 24 for place in places)
    assert [] == [
        (one, other)
        for position, one in enumerate(places)
        for other in places[position + 1 :]
        if overlap(one, other)
    ]
