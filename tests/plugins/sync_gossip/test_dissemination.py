# SPDX-License-Identifier: Apache-2.0
"""The queue of news: a limit of times, of bytes and of pieces."""

from ipaddress import IPv4Address

from galelb_plugins.sync_gossip.dissemination import Queue
from galelb_plugins.sync_gossip.messages import Claim, Record, State
from galelb_plugins.sync_gossip.wire import size_of

ADDRESS = (IPv4Address("10.0.0.1"), 1)
BUDGET = 10_000


def claim(name, incarnation=0):
    return Claim(name, ADDRESS, incarnation, State.ALIVE)


def filled(*names, limit=100):
    queue = Queue(limit)
    for name in names:
        queue.add(claim(name))
    return queue


def test_news_is_sent_as_often_as_agreed():
    queue = filled("a")

    assert [(claim("a"),)] * 3 + [()] == [queue.take(BUDGET, 3) for _ in range(4)]
    assert 0 == len(queue)


def test_the_newest_goes_first_and_what_was_sent_waits():
    queue = filled("a", "b", "c")
    room = size_of(claim("a"))

    assert ["c", "b", "a", "c"] == [queue.take(room, 3)[0].name for _ in range(4)]


def test_what_does_not_fit_lets_smaller_news_pass():
    queue = filled("a")
    large = Record("b", "k", 1, bytes(200))
    queue.add(large)

    assert (claim("a"),) == queue.take(100, 3)
    assert (large, claim("a")) == queue.take(BUDGET, 3)


def test_newer_news_takes_the_place_of_older():
    queue = filled("a", "b")
    queue.take(BUDGET, 3)

    queue.add(claim("a", 1))

    assert (claim("a", 1), claim("b")) == queue.take(BUDGET, 3)


def test_what_has_to_go_first_takes_of_the_budget_and_is_not_sent_twice():
    queue = filled("a", "b")
    room = size_of(claim("a")) * 2

    assert (claim("x"), claim("b")) == queue.take(room, 3, (claim("x"), None))
    assert (claim("a"), claim("b")) == queue.take(BUDGET, 3, (claim("a"),))


def test_a_full_queue_drops_what_is_oldest():
    queue = filled("a", "b", limit=2)

    queue.add(claim("a", 1))
    queue.add(claim("c"))

    assert (claim("c"), claim("a", 1)) == queue.take(BUDGET, 3)
