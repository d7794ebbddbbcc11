# SPDX-License-Identifier: Apache-2.0
"""How things are between this node and one balancer."""

from __future__ import annotations

import attrs

from galelb.model import IPAddress

__all__ = ["Standing"]


@attrs.define(kw_only=True)
class Standing:
    """Times are of trio's clock; None = not now, or not yet."""

    peer: IPAddress | None = None
    """The address that is connected to."""
    connected_at: float | None = None
    """When the balancer first answered over the connection that stands."""
    answered_at: float | None = None
    """When it answered last, over whatever connection."""
    error: str = ""
    """Why it could not be reached the last time, or was lost."""
    error_at: float | None = None
    next_try_at: float | None = None

    def answered(self, now: float) -> None:
        """Note an answer."""
        self.answered_at = now
        if self.connected_at is None:
            self.connected_at = now

    def failed(self, reason: str, now: float) -> None:
        """Note that there is no connection any more, or still none."""
        self.peer = self.connected_at = None
        self.error, self.error_at = reason, now
