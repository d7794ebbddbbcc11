# SPDX-License-Identifier: Apache-2.0
"""The client's side of one short TCP connection, without input and output.

As little as a check needs: one segment of ours at a time, only what arrives in order is taken,
and the end is a reset, which leaves nothing behind on the node. The handshake is acknowledged with
the first data, so that an application never sees a connection on which nothing is asked.
"""

from __future__ import annotations

import enum

from galelb_plugins.health_probe.segments import Flag, Segment

__all__ = ["MOST_UNREAD", "SEGMENT_BYTES", "Connection", "State"]

SEGMENT_BYTES = 1000
"""Of ours, at most; fits with any headers before it into 1280 bytes."""
MOST_UNREAD = 64 * 1024
_NUMBERS = 1 << 32


class State(enum.Enum):
    """Where a connection is."""

    OPENING = "opening"
    OPEN = "open"
    REFUSED = "refused"
    RESET = "reset"


class Connection:
    """`take` what arrives; what methods return is to be sent."""

    def __init__(self, first_number: int) -> None:
        self.state = State.OPENING
        self.ended = False
        """Whether the node has said that nothing follows."""
        self._unread = bytearray()
        self._next = (first_number + 1) % _NUMBERS
        """Of our next byte."""
        self._expected = 0
        """Of the node's next byte."""
        self._waiting = Segment(Flag.SYN, first_number)
        """Sent and not acknowledged; a pure ACK when all is."""

    @property
    def acknowledged(self) -> bool:
        """Whether the node has everything that was sent."""
        return self.state is not State.OPENING and not self._waiting.payload

    def again(self) -> Segment:
        """Return what to send at first, and again while it is not acknowledged."""
        return self._waiting

    def send(self, data: bytes) -> Segment:
        """Return a segment with at most SEGMENT_BYTES; only when all is acknowledged."""
        self._waiting = Segment(Flag.ACK | Flag.PSH, self._next, self._expected, data)
        self._next = (self._next + len(data)) % _NUMBERS
        return self._waiting

    def read(self, most: int) -> bytes:
        """Return what has arrived in order, empty if there is nothing."""
        data = bytes(self._unread[:most])
        del self._unread[:most]
        return data

    def close(self) -> Segment | None:
        """Return what makes the node forget the connection."""
        if self.state in (State.REFUSED, State.RESET):
            return None
        return Segment(Flag.RST, self._next)

    def take(self, segment: Segment) -> Segment | None:
        """Apply a segment from the node; return an answer that it needs at once."""
        if self.state is State.OPENING:
            self._open(segment)
            return None
        if self.state is not State.OPEN or segment.flags & Flag.SYN:
            return None
        if segment.flags & Flag.RST:
            if segment.seq == self._expected:
                self.state = State.RESET
            return None
        if segment.flags & Flag.ACK and segment.ack == self._next:
            self._waiting = Segment(Flag.ACK, self._next, self._expected)
        return self._take_data(segment)

    def _open(self, segment: Segment) -> None:
        if not segment.flags & Flag.ACK or segment.ack != self._next:
            return  # of an earlier connection
        if segment.flags & Flag.RST:
            self.state = State.REFUSED
        elif segment.flags & Flag.SYN:
            self.state = State.OPEN
            self._expected = (segment.seq + 1) % _NUMBERS
            self._waiting = Segment(Flag.ACK, self._next, self._expected)

    def _take_data(self, segment: Segment) -> Segment | None:
        fin = bool(segment.flags & Flag.FIN)
        if not segment.payload and not fin:
            return None
        known = (self._expected - segment.seq) % _NUMBERS
        fresh = segment.payload[known:]
        if known <= len(segment.payload) and len(self._unread) + len(fresh) <= MOST_UNREAD:
            self._unread += fresh
            self.ended = self.ended or fin
            self._expected = (segment.seq + len(segment.payload) + fin) % _NUMBERS
        return Segment(Flag.ACK, self._next, self._expected)
