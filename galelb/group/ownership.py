# SPDX-License-Identifier: Apache-2.0
"""Who holds which address: VIPs, and the addresses that flows are translated to.

Every balancer computes the same from the same membership, so nobody has to be asked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

__all__ = ["heir", "rendezvous"]


def rendezvous(key: str, members: Iterable[str]) -> str | None:
    """Return the member that scores highest for the key; None without members.

    Highest random weight hashing (Thaler and Ravishankar, 1998): when a member goes, only its keys
    move; when one comes, it takes its share and nothing else moves.
    """
    return max(members, key=lambda member: (_score(key, member), member), default=None)


def heir(address: str, home: str, lags: Mapping[str, float], tolerated: float) -> str | None:
    """Return who holds a translation address of the balancer `home`; None when nobody lives.

    `lags`: how far each live balancer's copy of the home's flows is behind, in seconds; a live
    home holds its own address whatever they say. Of the others those count that are no further
    behind than `tolerated`, else the most current ones: flows on the address rather lose some
    packets than their only way.
    """
    if home in lags:
        return home
    limit = max(tolerated, min(lags.values(), default=0.0))
    return rendezvous(address, (member for member, lag in lags.items() if lag <= limit))


def _score(key: str, member: str) -> bytes:
    """Lengths are part of it, so that no two pairs are the same text."""
    text = f"{len(key)}:{key}{member}".encode()
    return hashlib.blake2b(text, digest_size=8).digest()
