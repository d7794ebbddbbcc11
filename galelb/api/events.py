# SPDX-License-Identifier: Apache-2.0
"""What happened: the last events, those of each node, and streams of what comes."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import attrs
import trio

__all__ = ["GAP", "Event", "EventLog", "Subscription"]

KEEP = 1000
"""Events that a client which was away may still get."""
KEEP_OF_NODES = 20_000
"""Events of all nodes together, as their histories."""
MOST_OF_NODE, LEAST_OF_NODE = 64, 8
MAX_NODES = 4096
QUEUE = 256
"""Events that a client may be behind."""
GAP = "gap"
"""The event that says: some are missing, look at everything again."""


@attrs.frozen(kw_only=True)
class Event:
    """Something that happened at `at`, seconds since the epoch."""

    id: str
    number: int
    at: float
    kind: str
    facts: Mapping[str, Any] = attrs.Factory(dict)


class Subscription:
    """Gets events one by one; ends when the log closes, or when it is too far behind."""

    def __init__(self, before: tuple[Event, ...]) -> None:
        self._before = deque(before)
        self._send, self._receive = trio.open_memory_channel[Event](QUEUE)
        self.overrun = False
        """Whether events were lost because nobody took them."""

    def give(self, event: Event) -> None:
        """Hand over an event; never blocks."""
        try:
            self._send.send_nowait(event)
        except trio.WouldBlock:
            self.overrun = True
            self.close()
        except trio.ClosedResourceError:
            pass  # overrun before

    def close(self) -> None:
        """Let `next` end after what is there already."""
        self._send.close()

    async def next(self) -> Event | None:
        """Return the next event; None = there will be none any more."""
        if self._before:
            await trio.lowlevel.checkpoint()
            return self._before.popleft()
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            return None


class EventLog:
    """Remembers events and passes them on; all methods belong to the trio thread.

    Ids are `<start>-<number>`, so that those of an earlier process are never taken for ours.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._start = f"{int(clock() * 1000):x}"
        self._count = 0
        self.counts: Counter[str] = Counter()
        """How many there were of each kind."""
        self._last: deque[Event] = deque(maxlen=KEEP)
        self._of_node: dict[str, deque[Event]] = {}
        self._subscriptions: set[Subscription] = set()
        self._closed = False

    def add(self, kind: str, *, node: str | None = None, **facts: Any) -> Event:
        """Note an event; with `node` it belongs to that node's history, too."""
        facts = facts if node is None else {"node": node, **facts}
        event = self._event(self._count + 1, kind, facts)
        self._count += 1
        self.counts[kind] += 1
        self._last.append(event)
        if node is not None:
            self._remember(node, event)
        for subscription in self._subscriptions:
            subscription.give(event)
        return event

    def last(self, count: int) -> tuple[Event, ...]:
        """Return the last events, oldest first."""
        return tuple(self._last)[-count:] if count else ()

    def of_node(self, node: str) -> tuple[Event, ...]:
        """Return a node's history, oldest first; nodes that are gone still have theirs."""
        return tuple(self._of_node.get(node, ()))

    @property
    def subscribers(self) -> int:
        """How many streams there are."""
        return len(self._subscriptions)

    @contextmanager
    def subscribe(self, last_id: str | None = None) -> Iterator[Subscription]:
        """Give events from now on, or from the one after `last_id` on.

        When those between are not all known any more, the first event is a `GAP`.
        """
        subscription = Subscription(self._since(last_id))
        if self._closed:
            subscription.close()
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    def close(self) -> None:
        """End all streams, and those that come."""
        self._closed = True
        for subscription in self._subscriptions:
            subscription.close()

    def _since(self, last_id: str | None) -> tuple[Event, ...]:
        if last_id is None:
            return ()
        start, _, text = last_id.partition("-")
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 16 else -1
        oldest = self._count - len(self._last)
        if start != self._start or not oldest <= number <= self._count:
            return (self._event(self._count, GAP, {}),)
        return tuple(event for event in self._last if event.number > number)

    def _event(self, number: int, kind: str, facts: Mapping[str, Any]) -> Event:
        return Event(
            id=f"{self._start}-{number}",
            number=number,
            at=self._clock(),
            kind=kind,
            facts=facts,
        )

    def _remember(self, node: str, event: Event) -> None:
        """Keep it, in place of what is oldest of this node, or of the node that rested longest."""
        history = self._of_node.pop(node, deque())
        self._of_node[node] = history
        history.append(event)
        if len(self._of_node) > MAX_NODES:
            del self._of_node[next(iter(self._of_node))]
        share = KEEP_OF_NODES // len(self._of_node)
        while len(history) > max(LEAST_OF_NODE, min(MOST_OF_NODE, share)):
            history.popleft()
