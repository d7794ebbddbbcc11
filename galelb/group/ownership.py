# SPDX-License-Identifier: Apache-2.0
"""Who holds which address: VIPs, and the addresses that flows are translated to.

Every balancer computes the same from the same membership, so nobody has to be asked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable

import attrs

__all__ = ["TOGETHER", "Member", "rendezvous", "source_holder", "vip_owner"]

TOGETHER = "together"
"""The key of addresses that have one owner, whatever they are."""


@attrs.frozen(kw_only=True)
class Member:
    """A live balancer, as far as addresses are concerned."""

    name: str
    ready: bool
    """Whether it says that it may have addresses."""
    steady: bool = True
    """False for a while after it came back from the dead, so that addresses do not flap."""
    copies: frozenset[str] = frozenset()
    """Peers whose flows it has a current copy of, or had until they died."""


def rendezvous(key: str, members: Iterable[str]) -> str | None:
    """Return the member that scores highest for the key; None without members.

    Highest random weight hashing (Thaler and Ravishankar, 1998): when a member goes, only its keys
    move; when one comes, it takes its share and nothing else moves.
    """
    return max(members, key=lambda member: (_score(key, member), member), default=None)


def vip_owner(vip: str, members: Collection[Member]) -> str | None:
    """Return who owns a VIP; None when nobody is ready."""
    return rendezvous(vip, (member.name for member in _best(members)))


def source_holder(address: str, home: str, members: Collection[Member]) -> str | None:
    """Return who holds a translation address of the balancer `home`; None: nobody is ready.

    Its home, if that lives and is ready. Else the heir: among those with a current copy of the
    home's flows if there are any. Flows on the address rather lose some packets than their only
    way, so without a current copy somebody holds it, too.
    """
    best = _best(members)
    if any(member.name == home for member in best):
        return home
    current = [member for member in best if home in member.copies]
    return rendezvous(address, (member.name for member in current or best))


def _best(members: Collection[Member]) -> list[Member]:
    """Return those that shall have addresses: steady ones if there are any."""
    ready = [member for member in members if member.ready]
    return [member for member in ready if member.steady] or ready


def _score(key: str, member: str) -> bytes:
    """Lengths are part of it, so that no two pairs are the same text."""
    text = f"{len(key)}:{key}{member}".encode()
    return hashlib.blake2b(text, digest_size=8).digest()
