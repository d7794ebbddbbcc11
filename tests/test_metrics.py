# SPDX-License-Identifier: Apache-2.0
"""Metrics are described once; histograms count what falls into their buckets."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galelb.metrics import Histogram, MetricFamily


@given(st.lists(st.floats(0, 100)))
def test_buckets_hold_all_values_up_to_their_bound(values: list[float]) -> None:
    histogram = Histogram((0.5, 1, 10))
    for value in values:
        histogram.observe(value)

    assert tuple(
        (bound, sum(value <= bound for value in values)) for bound in (0.5, 1, 10, inf)
    ) == (histogram.buckets())
    assert len(values) == histogram.count
    assert sum(values) == pytest.approx(histogram.sum)


def test_labels_come_in_order_and_all_of_them() -> None:
    family = MetricFamily(name="galelb_x", help="X.", labels=("a", "b"))

    assert {"a": "1", "b": "2"} == family.sample(3, "1", "2").labels
    with pytest.raises(ValueError):
        family.sample(3, "1")
