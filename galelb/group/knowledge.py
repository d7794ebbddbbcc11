# SPDX-License-Identifier: Apache-2.0
"""Whether a flow that is not known here is known nowhere, so that its packets may begin another.

Else it may be one that a peer made a moment ago: its packets are dropped, and its client sends them
again until the peer's word of it has come. Begun anew it would go by another port to another node,
which resets it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Protocol

import attrs

__all__ = ["REROUTED_S", "SETTLED_S", "Copies", "Knowledge"]

SETTLED_S = 1.5
"""After a VIP moved: until then some clients send to its last owner, which makes flows for them."""
REROUTED_S = 10.0
"""After a balancer came or went where routers choose one for each flow: they move flows of all
balancers some seconds later, when their protocols have converged."""


class Copies(Protocol):
    """How current our copies of the peers' flows are."""

    @property
    def complete(self) -> bool:
        """Whether all flows of all live peers are here."""

    @property
    def as_of(self) -> float:
        """Return the moment since which the oldest copy of a live peer's flows knows nothing."""

    def current(self) -> Collection[str]:
        """Return the live peers whose flows are here but for the last moments."""

    def awaited(self, peer: str) -> bool:
        """Whether a dead peer's kernel goes on without it, so that its next run tells the rest."""


@attrs.define
class Knowledge:
    """Of all balancers' flows; tell it when packets may begin to come by another way."""

    copies: Copies
    _settled_at: float = float("-inf")

    def moved(self, now: float, settles_s: float) -> None:
        """Note that for so long packets may come of flows that others have made meanwhile."""
        self._settled_at = max(self._settled_at, now + settles_s)

    def whole(self, dead: Iterable[str]) -> bool:
        """Whether all flows are known; `dead`: the peers that ended without a farewell."""
        copies = self.copies
        settled = copies.complete and copies.as_of >= self._settled_at
        return settled and not any(map(copies.awaited, dead))
