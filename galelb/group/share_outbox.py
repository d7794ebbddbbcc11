# SPDX-License-Identifier: Apache-2.0
"""What one peer is still to be sent of our flows, and how far its copy is behind."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from galelb.group.share_messages import Batch, Beat, Message

__all__ = ["MAX_QUEUE", "Outbox"]

MAX_QUEUE = 8 << 20
"""Bytes that may wait for one peer: half a million changes, or some ten seconds of a busy group."""


class Outbox:
    """A bounded queue; sans-IO. Times are seconds of one clock that does not go back.

    Changes that find no room are dropped together with all that waits: the peer is so slow that
    it is cheaper to send it everything again, as it is by then, than to make others wait for it.
    """

    def __init__(self, now: float) -> None:
        self._queue: deque[Message] = deque()
        self._bytes = 0
        self._unacknowledged: deque[tuple[int, float]] = deque()
        self._since = now
        self.behind = True
        """Whether the peer needs everything, before changes say anything to it."""
        self.overflows = 0

    def restart(self, now: float) -> None:
        """Have everything sent again, as after a change of the data path."""
        self.behind, self._since = True, now

    def begin(self) -> None:
        """Note that everything is going to be sent; what changes from now on waits behind it."""
        self.behind = False
        self._queue.clear()
        self._bytes = 0
        self._unacknowledged.clear()

    def put(self, forwarder: str, batches: Iterable[bytes], beat: int, now: float) -> None:
        """Add changes, and a beat that tells that they are all."""
        if self.behind:
            return
        for data in batches:
            self._queue.append(Batch(forwarder, data))
            self._bytes += len(data)
        self._queue.append(Beat(beat))
        self._unacknowledged.append((beat, now))
        if self._bytes > MAX_QUEUE or len(self._unacknowledged) > MAX_QUEUE >> 10:
            self.overflows += 1
            self.restart(now)

    def take(self) -> Message | None:
        """Return what is to be sent next, None = nothing waits."""
        if not self._queue:
            return None
        message = self._queue.popleft()
        if isinstance(message, Batch):
            self._bytes -= len(message.data)
        return message

    def acknowledged(self, beat: int) -> None:
        """Note that the peer has taken in everything before this beat."""
        while self._unacknowledged and self._unacknowledged[0][0] <= beat:
            self._since = self._unacknowledged.popleft()[1]

    def lag(self, now: float) -> float:
        """Return by how many seconds the peer's copy is behind."""
        return now - self._since
