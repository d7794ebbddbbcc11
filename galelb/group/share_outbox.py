# SPDX-License-Identifier: Apache-2.0
"""What one peer is still to be sent of our flows, and how far its copy is behind."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from galelb.group.share_messages import Batch, Beat, Whole

__all__ = ["MAX_QUEUE", "Outbox"]

MAX_QUEUE = 8 << 20
"""Bytes that may wait for one peer: half a million changes, or some ten seconds of a busy group."""
_MAX_BEATS = 1024
_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 8.0
"""Before everything is sent again. Less than the time after which a joiner gives a peer up."""


class Outbox:
    """A bounded queue; sans-IO. Times are seconds of one clock that does not go back.

    Changes that find no room are dropped together with all that waits: the peer is so slow that
    it is cheaper to send it everything again, as it is by then, than to make others wait for it.
    """

    def __init__(self, now: float) -> None:
        self._queue: deque[Batch | tuple[int, float]] = deque()
        self._bytes = 0
        self._unacknowledged: deque[tuple[int, float]] = deque()
        self._since = now
        self._begun = now
        self._pause = 0.0
        self.not_before = now
        """When everything may be sent, if the peer needs it."""
        self.behind = True
        """Whether the peer needs everything, before changes say anything to it."""
        self.overflows = 0

    def restart(self) -> None:
        """Have everything sent again, as after a change of the data path."""
        self.behind = True
        self._forget()

    def postpone(self, now: float) -> None:
        """Have everything sent again after a pause, each time a longer one."""
        self._pause = min(max(_PAUSE_S, 2 * self._pause), _LONGEST_PAUSE_S)
        self.not_before = now + self._pause
        self.restart()

    def begin(self, now: float) -> None:
        """Note that everything is going to be sent; what changes from now on waits behind it."""
        self.behind = False
        self._begun = now
        self._forget()

    def whole(self, now: float) -> Whole:
        """Return what tells that everything has been sent."""
        return Whole(_milliseconds(now - self._begun))

    def put(self, found: Iterable[tuple[str, bytes]], beat: int | None, now: float) -> bool:
        """Add what has changed, by forwarder; return whether there was room.

        With a beat it is all that had changed by `now`.
        """
        if self.behind:
            return True
        for forwarder, data in found:
            self._queue.append(Batch(forwarder, data))
            self._bytes += len(data)
        if beat is not None:
            self._queue.append((beat, now))
            self._unacknowledged.append((beat, now))
        if self._bytes <= MAX_QUEUE and len(self._unacknowledged) <= _MAX_BEATS:
            return True
        self.overflows += 1
        self.postpone(now)
        return False

    def take(self, now: float) -> Batch | Beat | None:
        """Return what is to be sent next, None = nothing waits."""
        if not self._queue:
            if not self.behind:
                self._pause = 0.0  # it keeps up
            return None
        match self._queue.popleft():
            case Batch() as batch:
                self._bytes -= len(batch.data)
                return batch
            case (number, made):
                return Beat(number, _milliseconds(now - made))

    def acknowledged(self, beat: int) -> None:
        """Note that the peer has taken in everything before this beat."""
        while self._unacknowledged and self._unacknowledged[0][0] <= beat:
            self._since = self._unacknowledged.popleft()[1]

    def lag(self, now: float) -> float:
        """Return by how many seconds the peer's copy is behind."""
        return now - self._since

    def _forget(self) -> None:
        self._queue.clear()
        self._bytes = 0
        self._unacknowledged.clear()


def _milliseconds(seconds: float) -> int:
    return max(0, round(1000 * seconds))
