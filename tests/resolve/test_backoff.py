# SPDX-License-Identifier: Apache-2.0
"""Waits double and are bounded; memory is bounded too."""

import pytest

from galelb.resolve.backoff import Limiter, backoff_s


@pytest.mark.parametrize(
    ("attempts", "expected"), [(0, 0.5), (1, 0.5), (2, 1.0), (4, 4.0), (9, 5.0), (10**6, 5.0)]
)
def test_waits_double_up_to_the_most(attempts, expected):
    assert expected == backoff_s(attempts, first_s=0.5, most_s=5.0)


def test_a_key_acts_at_growing_intervals():
    limiter = Limiter(8, first_s=1.0, most_s=4.0)

    allowed = [now for now in range(16) if limiter.allow("a", float(now))]

    assert [0, 1, 3, 7, 11, 15] == allowed


def test_a_key_that_was_quiet_starts_anew():
    limiter = Limiter(8, first_s=1.0, most_s=4.0)
    for now in (0.0, 1.0, 3.0):
        limiter.allow("a", now)

    assert limiter.allow("a", 60.0)
    assert limiter.allow("a", 61.0)


def test_keys_do_not_hold_each_other_up():
    limiter = Limiter(8, first_s=1.0, most_s=4.0)

    assert limiter.allow("a", 0.0)
    assert limiter.allow("b", 0.0)
    assert not limiter.allow("a", 0.5)


def test_only_so_many_keys_are_remembered():
    limiter = Limiter(3, first_s=1.0, most_s=4.0)

    for key in range(10):
        limiter.allow(key, 0.0)

    assert 3 == len(limiter)
    assert not limiter.allow(9, 0.5)
