# SPDX-License-Identifier: Apache-2.0
"""Asks a balancer again and again, in a thread: the picture must not wait for its answers."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from galelb.client import ApiClient, RefusedError
from galelb.errors import ApiError
from galelb.top.values import Sample

__all__ = ["Feed", "fetch", "running"]

EVENTS = 50


def fetch(client: ApiClient) -> Sample:
    """Return what the balancer says now. Raises ApiError."""
    try:
        status = client.get("status")
        services, nodes = client.get("services")["services"], client.get("nodes")["nodes"]
        now = time.monotonic()
        return Sample(at=now, status=status, nodes=nodes, services=services, events=_events(client))
    except (KeyError, TypeError):
        raise ApiError("what answers is no balancer of this version") from None


def _events(client: ApiClient) -> list[dict[str, object]]:
    try:
        return list(client.get("events/recent", limit=EVENTS)["events"])
    except RefusedError as error:
        if error.status == 404:  # an older balancer has none
            return []
        raise


class Feed:
    """The latest outcome; `told` is called, in the feed's thread, when there is a new one.

    Owns the client from `run` on.
    """

    def __init__(self, client: ApiClient, interval_s: float, told: Callable[[], None]) -> None:
        self._client = client
        self.interval_s = interval_s
        self._told = told
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._outcome: Sample | ApiError | None = None

    def take(self) -> Sample | ApiError | None:
        """Return the outcome that came since the last call; None = there is none."""
        with self._lock:
            outcome, self._outcome = self._outcome, None
        return outcome

    def run(self) -> None:
        """Ask until `end`, then close the client."""
        with self._client:
            self._ask()

    def _ask(self) -> None:
        while not self._ended.is_set():
            began = time.monotonic()
            outcome: Sample | ApiError
            try:
                outcome = fetch(self._client)
            except ApiError as error:
                outcome = error
            with self._lock:
                self._outcome = outcome
            self._told()
            self._ended.wait(max(0.05, began + self.interval_s - time.monotonic()))

    def end(self) -> None:
        """Let `run` return after the request that is under way."""
        self._ended.set()


@contextlib.contextmanager
def running(feed: Feed) -> Iterator[None]:
    """Run a feed in a thread; leaving does not wait for an answer that is still to come."""
    threading.Thread(target=feed.run, daemon=True).start()
    try:
        yield
    finally:
        feed.end()
