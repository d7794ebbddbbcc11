# SPDX-License-Identifier: Apache-2.0
"""Which nodes a balancer takes for routable when others have opinions too.

In a quorum the majority decides. Cut off from it a balancer cannot tell a dead node from a dead
cable of its own, so it changes as little as it can: docs/design/006-group.md.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping

import attrs

__all__ = ["Standing", "Verdicts", "is_quorum"]


class Standing(enum.Enum):
    """What a balancer is to its group."""

    FORMING = "forming"
    """It has never been in a quorum: its own view counts."""
    QUORATE = "quorate"
    CUT_OFF = "cut off"
    """It was in a quorum and has lost it."""


@attrs.define
class _Opinion:
    routable: bool
    at: float


def is_quorum(alive: int, size: int) -> bool:
    """Whether `alive` balancers of `size`, oneself among both, may decide for all.

    A pair never has a majority once one is gone, and must go on: there everyone decides.
    """
    return size <= 2 or 2 * alive > size


class Verdicts:
    """One balancer's opinions, those of its peers, and what follows from them.

    `size`: balancers that are configured, oneself among them. `timeout_s` is checks_timeout: an
    opinion counts for twice as long, and a node that fails while the balancer is cut off is
    judged that long after, when others would have been missed too.
    """

    def __init__(self, size: int, timeout_s: float) -> None:
        self._size = size
        self.timeout_s = timeout_s
        self._alive: frozenset[str] = frozenset()
        self._strangers = 0
        self._mine: dict[str, bool] = {}
        self._theirs: dict[str, dict[str, _Opinion]] = {}
        self._agreed: dict[str, bool] = {}
        """What held when the balancer was cut off, less what it took out since."""
        self._reported: set[str] = set()
        """Nodes that it has heard itself since shortly before it was cut off."""
        self._failed: dict[str, float] = {}
        """When it saw nodes fail, while cut off."""
        self._deaf_until = float("-inf")
        self.standing = Standing.FORMING
        self._take_stock()

    def members(self, alive: Collection[str], now: float, *, strangers: int = 0) -> Standing:
        """Note which peers are alive, without oneself; returns what one is now.

        Opinions of those that are not are forgotten. `strangers` of them are not configured: they
        have opinions, but make no quorum; else each half of a group could have one with them.
        """
        before = self.routable(now)
        self._alive = frozenset(alive)
        self._strangers = strangers
        self._theirs = {peer: said for peer, said in self._theirs.items() if peer in self._alive}
        was = self.standing
        self._take_stock()
        if self.standing is not was:
            self._failed = {}  # only who is cut off judges failures
        if self.standing is Standing.CUT_OFF and was is not Standing.CUT_OFF:
            self._agreed = before
            self._reported = {node for node, routable in self._mine.items() if routable}
        return self.standing

    def listen(self, now: float, *, deaf: bool) -> None:
        """Note whether nothing can be heard of peers. What they said then grows old unseen, so
        nodes are judged as when cut off, and for one `timeout_s` more: others come back later.
        """
        if not deaf:
            self._deaf_until = min(self._deaf_until, now + self.timeout_s)
            return
        if not self._frozen(now):
            self._agreed = self.routable(now)
            self._reported = {node for node, routable in self._mine.items() if routable}
            missed = (node for node, routable in self._mine.items() if not routable)
            # One that fell while that was not known yet.
            self._failed = {node: now for node in missed if self._agreed.get(node)}
            self._reported.update(self._failed)
        self._deaf_until = float("inf")

    def _frozen(self, now: float) -> bool:
        deaf = self.standing is Standing.QUORATE and now < self._deaf_until
        return deaf or self.standing is Standing.CUT_OFF

    def say(self, node: str, routable: bool, now: float) -> None:
        """Note what the balancer itself thinks of a node."""
        before = self._mine.get(node, False)
        self._mine[node] = routable
        if not self._frozen(now):
            return
        if routable:
            self._reported.add(node)
            self._failed.pop(node, None)
        elif before:
            self._failed[node] = now

    def hear(self, peer: str, opinions: Mapping[str, bool], now: float) -> None:
        """Note all that a live peer thinks; what it does not name it has no opinion of."""
        if peer in self._alive:
            self._theirs[peer] = {node: _Opinion(word, now) for node, word in opinions.items()}

    def forget(self, node: str) -> None:
        """Drop a node that the balancer itself no longer knows."""
        for known in (self._mine, self._failed, self._agreed):
            known.pop(node, None)
        self._reported.discard(node)

    def routable(self, now: float) -> dict[str, bool]:
        """Return what holds for every node that anybody has an opinion of."""
        if self._frozen(now):
            self._judge_failures(now)
            # A node without a word would be as routable as this balancer alone thinks.
            return dict.fromkeys(self._mine, False) | self._agreed
        if self.standing is Standing.FORMING:
            return dict(self._mine)
        return {node: self._majority(node, now) for node in self._known()}

    def due(self) -> float | None:
        """Return when the next failure is to be judged; None = nothing waits."""
        return min((at + self.timeout_s for at in self._failed.values()), default=None)

    def _take_stock(self) -> None:
        if is_quorum(1 + len(self._alive) - self._strangers, self._size):
            self.standing = Standing.QUORATE
        elif self.standing is Standing.QUORATE:
            self.standing = Standing.CUT_OFF

    def _known(self) -> set[str]:
        return set(self._mine).union(*self._theirs.values())

    def _majority(self, node: str, now: float) -> bool:
        """A tie is routable: a node too many fails some flows, one too few fails its own."""
        words = [self._mine[node]] if node in self._mine else []
        oldest = now - 2 * self.timeout_s
        for said in self._theirs.values():
            opinion = said.get(node)
            if opinion is not None and opinion.at >= oldest:
                words.append(opinion.routable)
        return bool(words) and 2 * sum(words) >= len(words)

    def _judge_failures(self, now: float) -> None:
        """Nothing comes back, and a node goes only when the cable is not to blame."""
        still = sum(self._mine.get(node, False) for node in self._reported)
        for node in [n for n, at in self._failed.items() if now >= at + self.timeout_s]:
            del self._failed[node]
            if self._agreed.get(node) and 2 * still >= len(self._reported):
                self._agreed[node] = False
