# SPDX-License-Identifier: Apache-2.0
"""News on its way: what has been sent least goes first, then what is newest (SWIM)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import attrs
from galelb_plugins.sync_gossip.messages import Claim, News
from galelb_plugins.sync_gossip.wire import size_of

__all__ = ["Queue"]


@attrs.define
class _Entry:
    news: News
    size: int
    order: int
    sent: int = 0


def _subject(news: News) -> tuple[str, ...]:
    return (news.name,) if isinstance(news, Claim) else (news.origin, news.key)


class Queue:
    """News to spread, at most `limit` pieces; about one subject only the last word."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: dict[tuple[str, ...], _Entry] = {}
        self._orders = itertools.count(1)

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, news: News) -> None:
        """Spread the news; in a full queue in the place of the oldest."""
        subject = _subject(news)
        self._entries.pop(subject, None)
        if len(self._entries) >= self._limit:
            del self._entries[next(iter(self._entries))]
        self._entries[subject] = _Entry(news, size_of(news), -next(self._orders))

    def take(
        self, budget: int, retransmits: int, first: Iterable[News | None] = ()
    ) -> tuple[News, ...]:
        """Return what fits into `budget` bytes, `first` before all; count it as sent once.

        What has been sent `retransmits` times is done. What is in `first` is not counted.
        """
        taken = [news for news in first if news is not None]
        budget -= sum(size_of(news) for news in taken)
        if not self._entries:
            return tuple(taken)
        for subject, entry in sorted(self._entries.items(), key=lambda item: self._turn(item[1])):
            if entry.news in taken or entry.size > budget:
                continue
            taken.append(entry.news)
            budget -= entry.size
            entry.sent += 1
            if entry.sent >= retransmits:
                del self._entries[subject]
        return tuple(taken)

    @staticmethod
    def _turn(entry: _Entry) -> tuple[int, int]:
        return entry.sent, entry.order
