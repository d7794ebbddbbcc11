# SPDX-License-Identifier: Apache-2.0
"""Metrics as Prometheus reads them; one bad sample does not spoil the page."""

from __future__ import annotations

from math import inf, nan

import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from galelb.api.exposition import exposition
from galelb.metrics import Histogram, MetricFamily
from galelb.model import Metric

GOOD = Metric(name="galelb_nodes", help="Nodes.", value=3, labels={"state": "routable"})


def test_samples_of_a_name_come_together_with_one_head() -> None:
    other = Metric(name="galelb_flows", help="Flows.", value=9)
    down = Metric(name="galelb_nodes", help="Nodes.", value=1, labels={"state": "down"})

    page = exposition([GOOD, other, down]).decode()

    assert (
        "# HELP galelb_nodes Nodes.\n"
        "# TYPE galelb_nodes gauge\n"
        'galelb_nodes{state="routable"} 3.0\n'
        'galelb_nodes{state="down"} 1.0\n'
        "# HELP galelb_flows Flows.\n"
        "# TYPE galelb_flows gauge\n"
        "galelb_flows 9.0\n"
    ) == page


@pytest.mark.parametrize("name", ["galelb_packets", "galelb_packets_total"])
def test_counters_end_in_total(name: str) -> None:
    page = exposition([Metric(name=name, help="Packets.", value=1, kind="counter")]).decode()

    assert "# TYPE galelb_packets_total counter\ngalelb_packets_total 1.0\n" in page


def test_a_histogram_has_buckets_count_and_sum() -> None:
    times = Histogram((0.001, 1))
    for seconds in (0.0005, 0.5, 7):
        times.observe(seconds)
    family = MetricFamily(name="x_seconds", help="X.", kind="histogram", labels=("l",))

    assert (
        "# HELP x_seconds X.\n"
        "# TYPE x_seconds histogram\n"
        'x_seconds_bucket{l="a",le="0.001"} 1.0\n'
        'x_seconds_bucket{l="a",le="1.0"} 2.0\n'
        'x_seconds_bucket{l="a",le="+Inf"} 3.0\n'
        'x_seconds_count{l="a"} 3.0\n'
        'x_seconds_sum{l="a"} 7.5005\n'
    ) == exposition([family.sample(times, "a")]).decode()


@pytest.mark.parametrize(
    ("value", "shown"),
    [(True, "1.0"), (10**17, "1e+17"), (0.1, "0.1"), (inf, "+Inf"), (-inf, "-Inf"), (nan, "NaN")],
)
def test_numbers_are_such_as_prometheus_reads(value: float, shown: str) -> None:
    page = exposition([Metric(name="x", help="X.", value=value)]).decode()

    assert f"x {shown}\n" == page.splitlines(keepends=True)[-1]


def test_text_that_no_page_can_carry_does_not_spoil_it() -> None:
    odd = Metric(name="x", help="X.", value=1, labels={"l": "\ud800"})

    assert b'x{l="?"} 1.0\n' in exposition([odd])


def test_label_values_are_escaped() -> None:
    nasty = 'a"b\\c\nd'

    page = exposition([Metric(name="x", help="X\nY.", value=1, labels={"l": nasty})]).decode()

    (family,) = text_string_to_metric_families(page)
    assert [nasty] == [sample.labels["l"] for sample in family.samples]


@pytest.mark.parametrize(
    "bad",
    [
        Metric(name="a-b", help="", value=1),
        Metric(name="", help="", value=1),
        Metric(name="x", help="", value=1, kind="summary"),
        Metric(name="x", help="", value=1, kind="histogram"),
        Metric(name="x", help="", value=1, kind="histogram", buckets=((1.0, 1),)),
        Metric(name="x", help="", value=1, kind="histogram", buckets=((1.0, 2), (inf, 1))),
        Metric(name="x", help="", value=1, kind="histogram", buckets=(("1", 2), (inf, 3))),  # type: ignore[arg-type]
        Metric(name="x", help="", value=1, buckets=((inf, 1),)),
        Metric(name="x", help="", value=1, labels={"a-b": ""}),
        Metric(name="x", help="", value=1, labels={"__name__": ""}),
        Metric(name="x", help="", value=1, labels={"a": 5}),  # type: ignore[dict-item]
        Metric(name="x", help="", value="1"),  # type: ignore[arg-type]
        Metric(name="galelb_nodes", help="", value=1, kind="counter"),
        GOOD,
    ],
)
def test_a_bad_sample_is_left_out_and_logged(bad: Metric) -> None:
    with capture_logs() as logs:
        page = exposition([GOOD, bad])

    assert exposition([GOOD]) == page
    assert ["metric_left_out"] == [entry["event"] for entry in logs]
