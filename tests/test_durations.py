# SPDX-License-Identifier: Apache-2.0
"""Durations: what people write, what they get, and that showing one reads back the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from galelb.durations import Duration, format_duration, parse_duration

CASES = {
    "5s": 5.0,
    "5m": 300.0,
    "1m30s": 90.0,
    "300ms": 0.3,
    "1h2m3.5s": 3723.5,
    "1.5h": 5400.0,
    ".5s": 0.5,
    "7us": 7e-6,
    "7µs": 7e-6,
    "12ns": 1.2e-8,
    "0": 0.0,
    "0s": 0.0,
}
BAD = [
    "", "5", "s", "5x", "-5s", "+5s", "5 s", " 5s", "5s ", "1e3s", "5S", "5sm", "٣s", "5s\n",
    "..5s", "9" * 80 + "s", "999999999h",
]  # fmt: skip


@pytest.mark.parametrize(("text", "seconds"), CASES.items())
def test_go_style_text_is_read_as_seconds(text, seconds):
    assert seconds == pytest.approx(parse_duration(text))


@pytest.mark.parametrize("text", BAD)
def test_anything_else_is_refused_with_what_to_write(text):
    with pytest.raises(ValueError, match="bad duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.3, "300ms"), (5, "5s"), (90, "1m30s"), (300, "5m"), (3600, "1h"), (1.5, "1.5s")],
)
def test_the_shortest_usual_form_is_shown(seconds, text):
    assert text == format_duration(seconds)


@given(st.integers(0, 10**15).map(lambda ns: ns / 1e9))
def test_what_is_shown_reads_back_as_the_same(seconds):
    assert seconds == pytest.approx(parse_duration(format_duration(seconds)), abs=1e-9)


class Section(BaseModel):
    timeout: Duration = 5.0


def test_a_bare_number_in_a_file_is_refused_because_nobody_knows_its_unit():
    with pytest.raises(ValidationError, match="bad duration 5: use a number and a unit"):
        Section.model_validate_json('{"timeout": 5}')


def test_a_bare_number_in_python_is_seconds():
    assert Section(timeout=2.5).timeout == 2.5
