# SPDX-License-Identifier: Apache-2.0
"""Waits between tries."""

import random

from galelb.node.backoff import Backoff


class Highest(random.Random):
    def uniform(self, low, high):
        return high


def test_waits_double_up_to_the_limit():
    backoff = Backoff(0.1, 5.0, Highest())

    waits = [backoff.next() for _ in range(8)]

    assert [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0] == waits


def test_a_cap_holds_at_once():
    backoff = Backoff(0.1, 5.0, Highest())
    for _ in range(8):
        backoff.next()
    backoff.cap(0.5)

    assert [0.5, 0.5] == [backoff.next(), backoff.next()]


def test_reset_begins_again():
    backoff = Backoff(0.1, 5.0, Highest())
    for _ in range(8):
        backoff.next()
    backoff.reset()

    assert 0.1 == backoff.next()


def test_jitter_is_full():
    waits = []
    for seed in range(200):
        backoff = Backoff(1.0, 1.0, random.Random(seed))
        waits.append(backoff.next())

    assert min(waits) < 0.1
    assert max(waits) > 0.9
    assert max(waits) <= 1.0
