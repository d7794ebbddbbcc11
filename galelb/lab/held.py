# SPDX-License-Identifier: Apache-2.0
"""One held connection: what it sends, what must come back, and how long that takes."""

from __future__ import annotations

import socket
import struct
import time

from galelb.lab.http_client import cause_of

__all__ = ["HeldConnection"]

_MESSAGE = struct.Struct("!QQ")


class HeldConnection:
    """Sends a message at a time over a socket and checks what comes back.

    Moments are seconds of the monotonic clock.
    """

    def __init__(self, number: int, sock: socket.socket) -> None:
        self._number = number
        self._socket = sock
        self._missing = b""
        self._sent_at = 0.0
        self._sent = 0
        self._stall_s = 0.0
        self.error: str | None = None
        """Why it is broken, in one word; None while it lives."""

    @property
    def waits(self) -> bool:
        """Whether an answer is missing."""
        return bool(self._missing) and self.error is None

    @property
    def size(self) -> int:
        """Bytes that came back."""
        return self._sent * _MESSAGE.size

    def stall_s(self, now: float) -> float:
        """Return the longest that a message took, the one under way included."""
        return max(self._stall_s, now - self._sent_at if self._missing else 0.0)

    def send(self, now: float) -> None:
        """Send the next message; nothing while an answer is missing."""
        if self._missing or self.error is not None:
            return
        message = _MESSAGE.pack(self._number, self._sent)
        self._missing, self._sent_at = message, now
        try:
            # Nothing else is on its way, so 16 bytes always fit.
            self._socket.send(message)
        except OSError as error:
            self.error = cause_of(error)

    def receive(self, data: bytes | OSError) -> None:
        """Take what arrived."""
        now = time.monotonic()
        if isinstance(data, OSError):
            self.error = cause_of(data)
        elif not data:
            self.error = "closed"
        elif not self._missing.startswith(data):
            self.error = "bad_content"
        else:
            self._missing = self._missing[len(data) :]
            if not self._missing:
                self._sent += 1
                self._stall_s = max(self._stall_s, now - self._sent_at)

    def expire(self, now: float, timeout_s: float) -> None:
        """Break it when it waits too long."""
        if self.waits and now - self._sent_at > timeout_s:
            self.error = "read_timeout"
