# SPDX-License-Identifier: Apache-2.0
"""What one balancer knows of another: what it said, whether it lives, and since when."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import attrs

from galelb.errors import RemoteProtocolError
from galelb.group.ownership import Member
from galelb.group.words import (
    ABOUT,
    COPY,
    DECISION,
    NODE,
    SETTING,
    SOURCE,
    About,
    Decision,
    NodeWord,
    SourceWord,
    unpack_settings,
)
from galelb.model import Peer

__all__ = ["KnownPeer", "Penalty"]

T = TypeVar("T")

_FIRST_S = 2.0
_MOST_S = 60.0
_FORGIVEN_S = 60.0


@attrs.define
class Penalty:
    """Keeps addresses from who comes to a running group, the longer the more often it died.

    A balancer that is too slow for its group dies and returns every second; addresses that
    followed it each time would serve nobody.
    """

    until: float = float("-inf")
    _deaths: list[float] = attrs.Factory(list)

    def died(self, now: float) -> None:
        """Note a death; a farewell is none."""
        self._deaths = [at for at in self._deaths if at > now - _FORGIVEN_S][-16:]
        self._deaths.append(now)

    def returned(self, now: float) -> None:
        """Begin to wait."""
        recent = sum(at > now - _FORGIVEN_S for at in self._deaths)
        self.until = now + min(_MOST_S, _FIRST_S * 2 ** max(0, recent - 1))

    def forgive(self) -> None:
        """Take it back: it was not the peer that was away."""
        self.until = float("-inf")
        self._deaths.clear()


@attrs.define
class KnownPeer:
    """Another balancer; `hear` takes its records."""

    peer: Peer
    since: float
    """When it became alive, or ended."""
    about: About | None = None
    nodes: dict[str, NodeWord] = attrs.Factory(dict)
    decisions: dict[str, Decision] = attrs.Factory(dict)
    sources: dict[str, SourceWord] = attrs.Factory(dict)
    copies: set[str] = attrs.Factory(set)
    penalty: Penalty = attrs.Factory(Penalty)
    bad_records: int = 0
    _settings: dict[str, bytes] = attrs.Factory(dict)

    @property
    def settings(self) -> dict[str, str]:
        """Digests of its shared settings by name; empty if they cannot be read."""
        try:
            return unpack_settings(self._settings.values())
        except RemoteProtocolError:
            return {}

    def member(self, now: float) -> Member:
        """Return it as a candidate for addresses."""
        return Member(
            name=self.peer.name,
            ready=self.about is not None and self.about.ready,
            steady=now >= self.penalty.until,
            copies=frozenset(self.copies),
        )

    def changed(self, peer: Peer, now: float, *, late: bool) -> None:
        """Note that it joined, died, left, returned or moved; `late`: the group runs already."""
        if self.peer.alive and not peer.alive and not peer.left:
            self.penalty.died(now)
        if peer.alive is not self.peer.alive:
            self.since = now
            if peer.alive and late:
                self.penalty.returned(now)
        self.peer = peer

    def hear(self, key: str, value: bytes | None) -> None:
        """Take a record; None deletes it. Raises RemoteProtocolError."""
        kind, slash, rest = key.partition("/")
        reader = _READERS.get(kind + slash)
        if reader is None:
            return  # of a later version
        try:
            reader(self, rest, value)
        except RemoteProtocolError:
            self.bad_records += 1
            raise

    def _hear_about(self, _: str, value: bytes | None) -> None:
        self.about = None if value is None else About.unpack(value)

    def _hear_node(self, node: str, value: bytes | None) -> None:
        _put(self.nodes, node, None if value is None else NodeWord.unpack(value))

    def _hear_decision(self, node: str, value: bytes | None) -> None:
        _put(self.decisions, node, None if value is None else Decision.unpack(value))

    def _hear_source(self, address: str, value: bytes | None) -> None:
        word = None if value is None else SourceWord.unpack(address, value)
        _put(self.sources, address, word)

    def _hear_copy(self, peer: str, value: bytes | None) -> None:
        (self.copies.discard if value is None else self.copies.add)(peer)

    def _hear_setting(self, part: str, value: bytes | None) -> None:
        _put(self._settings, part, value)


def _put(known: dict[str, T], key: str, value: T | None) -> None:
    if value is None:
        known.pop(key, None)
    else:
        known[key] = value


_READERS: dict[str, Callable[[KnownPeer, str, bytes | None], None]] = {
    ABOUT: KnownPeer._hear_about,
    NODE: KnownPeer._hear_node,
    DECISION: KnownPeer._hear_decision,
    SOURCE: KnownPeer._hear_source,
    COPY: KnownPeer._hear_copy,
    SETTING: KnownPeer._hear_setting,
}
