# SPDX-License-Identifier: Apache-2.0
"""What one connection may cost: sizes, rates and time-outs."""

from __future__ import annotations

import attrs

from galelb.grpc.framing import MAX_MESSAGE_BYTES

__all__ = ["Budget", "LinkLimits", "ServerLimits", "Share"]


@attrs.frozen(kw_only=True)
class LinkLimits:
    """Limits of one HTTP/2 connection; times in seconds, sizes in bytes."""

    max_message: int = MAX_MESSAGE_BYTES
    max_streams: int = 100
    """Calls at a time that the other side may have open."""
    stream_window: int = 2 * MAX_MESSAGE_BYTES
    """Received but not consumed bytes of a call; must exceed a whole message."""
    connection_window: int = 4 * MAX_MESSAGE_BYTES
    """Received but not consumed bytes of all calls of a connection."""
    handshake_timeout: float = 5.0
    """For the other side's HTTP/2 preface and settings."""
    keepalive_interval: float = 5.0
    """Silence after which a PING is sent."""
    keepalive_timeout: float = 5.0
    """For the answer to a PING."""
    write_timeout: float = 10.0
    """For the other side to take what we wrote."""
    idle_timeout: float = 60.0
    """A served connection without any call is closed after this."""
    calls_per_s: float = 300.0
    """Calls that the other side may open per second, averaged over 10 s."""
    resets_per_s: float = 20.0
    """Those that it may reset."""
    controls_per_s: float = 200.0
    """Other events of its making: PING, SETTINGS, priority, empty DATA."""


@attrs.frozen(kw_only=True)
class ServerLimits:
    """Limits of a server."""

    link: LinkLimits = attrs.field(factory=LinkLimits)
    max_connections: int = 1024
    max_connections_per_address: int = 32
    max_calls_per_address: int = 4096
    """Calls at a time over all connections of an address."""
    time_share: float = 0.2
    """Of the thread's time for one address: seconds per second on average, see `Share`."""
    time_burst: float = 1.0
    """At once; seconds."""


_MOST_DEBT_S = 0.25
"""Nobody has to pay for more: work comes in small pieces, so that a debt is an accident."""


class Share:
    """The time of the only thread that one address may take: a bucket of seconds.

    Who takes more is worked for later. So whatever an address sends, and over however many
    connections, the others have the rest.
    """

    def __init__(self, rate: float, burst: float) -> None:
        """`rate`: seconds per second on average; `burst`: at once."""
        self._rate = rate
        self._burst = burst
        self._most_debt = min(burst, _MOST_DEBT_S)
        self._left = burst
        self._at = float("-inf")

    def spend(self, seconds: float, now: float) -> None:
        """Note that time was used."""
        self._refill(now)
        self._left = max(-self._most_debt, self._left - seconds)

    def overdrawn(self, now: float) -> bool:
        """Return whether more was used than there was."""
        if self._left > 0:
            return False
        self._refill(now)
        return self._left <= 0

    def pause(self, now: float) -> float:
        """Return how long to wait until there is time again."""
        self._refill(now)
        return max(0.0, -self._left) / self._rate + 0.001

    def idle(self, now: float) -> bool:
        """Return whether nothing is owed any more, so that it can be forgotten."""
        self._refill(now)
        return self._left >= self._burst

    def _refill(self, now: float) -> None:
        if now > self._at:
            self._left = min(self._burst, self._left + (now - self._at) * self._rate)
            self._at = now


class Budget:
    """A token bucket: `rate` per second on average, ten seconds' worth at once."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._tokens = rate * 10
        self._at = float("-inf")

    def spend(self, now: float) -> bool:
        """Take one; False when there is none left."""
        full = self._rate * 10
        self._tokens = min(full, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = max(self._at, now)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
