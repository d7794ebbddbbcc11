# SPDX-License-Identifier: Apache-2.0
"""Asking again and again, in a thread."""

import threading

import pytest

from galelb.client import RefusedError
from galelb.errors import ApiError
from galelb.top.feed import Feed, fetch, running
from galelb.top.values import Sample


class Client:
    """Answers as it is told to; remembers what it was asked."""

    def __init__(self, **answers):
        self.answers = {
            "status": {"ready": True},
            "services": {"services": []},
            "nodes": {"nodes": []},
            "events/recent": {"events": [{"id": "1"}]},
        } | answers
        self.closed = threading.Event()

    def get(self, resource, **params):
        answer = self.answers[resource]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.closed.set()


def test_a_sample_has_all_that_is_shown():
    sample = fetch(Client())

    assert ({"ready": True}, [], [], [{"id": "1"}]) == (
        sample.status,
        sample.services,
        sample.nodes,
        sample.events,
    )


def test_a_balancer_without_events_is_shown_all_the_same():
    sample = fetch(Client(**{"events/recent": RefusedError("no", status=404, code="not_found")}))

    assert [] == sample.events


@pytest.mark.parametrize(
    "answers",
    [
        {"events/recent": RefusedError("no", status=500, code="internal")},
        {"nodes": ApiError("gone")},
        {"nodes": {"knots": []}},
    ],
)
def test_what_goes_wrong_is_an_api_error(answers):
    with pytest.raises(ApiError):
        fetch(Client(**answers))


def test_outcomes_are_told_and_taken_once_until_it_ends():
    client, told = Client(), threading.Event()
    feed = Feed(client, 3600, told.set)
    with running(feed):
        told.wait()
        assert isinstance(feed.take(), Sample)
        assert feed.take() is None

    client.closed.wait()


def test_errors_are_outcomes_and_it_goes_on():
    client, told = Client(status=ApiError("gone")), threading.Semaphore(0)
    feed = Feed(client, 0.01, told.release)
    with running(feed):
        told.acquire()
        first = feed.take()
        client.answers["status"] = {"ready": True}
        while not isinstance(feed.take(), Sample):
            told.acquire()

    assert "gone" == str(first)
    client.closed.wait()
