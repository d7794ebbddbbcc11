# SPDX-License-Identifier: Apache-2.0
"""The lint finds each thing that promtool finds, too."""

from __future__ import annotations

import pytest

from galelb.testing.metrics_lint import lint_metrics

GOOD = (
    "# HELP galelb_flows Flows.\n# TYPE galelb_flows gauge\ngalelb_flows 3\n"
    "# HELP galelb_x_total X.\n# TYPE galelb_x_total counter\n"
    'galelb_x_total{a="1"} 3\n'
    "# HELP galelb_y_seconds Y.\n# TYPE galelb_y_seconds histogram\n"
    'galelb_y_seconds_bucket{le="+Inf"} 1\ngalelb_y_seconds_count 1\ngalelb_y_seconds_sum 2\n'
)


def family(name: str, kind: str = "gauge", sample: str | None = None, text: str = "Help.") -> str:
    help_line = f"# HELP {name} {text}\n" if text else ""
    return f"{help_line}# TYPE {name} {kind}\n{sample or name + ' 1'}\n"


def test_a_good_page_has_no_problems() -> None:
    assert [] == lint_metrics(GOOD)


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        (family("galelb_x", text=""), "has no help"),
        (family("galelb_xY"), "snake_case"),
        (family("galelb_x_total"), "stands for something else"),
        (family("galelb_x_count"), "stands for something else"),
        (family("galelb_x_ms"), "no base unit: ms"),
        (family("galelb_x_percent"), "no base unit: percent"),
        (family("galelb_gauge_x"), "names its own type"),
        (family("galelb_x", "counter"), "must end in _total"),
        (family("galelb_x", sample='galelb_x{le="1"} 1'), "le, which is for histograms"),
        (family("galelb_x", sample='galelb_x{aB="1"} 1'), "the label aB"),
        (family("galelb_x", sample=f'galelb_x{{a="{"y" * 200}"}} 1'), "a whole text"),
        (family("galelb_x", sample='galelb_x{a="1"} 1\ngalelb_x{b="1"} 1'), "different labels"),
        (family("galelb_x", "untyped"), "an unknown one"),
        (family("galelb_x_total", "counter", "galelb_x_total -1"), "below 0"),
        (family("galelb_x") + GOOD + family("galelb_x"), "twice"),
    ],
)
def test_every_rule_is_found_broken(page: str, problem: str) -> None:
    assert any(problem in found for found in lint_metrics(page)), lint_metrics(page)


def test_what_is_no_page_is_an_error() -> None:
    with pytest.raises(ValueError):
        lint_metrics("galelb_x{ 1\n")
