# SPDX-License-Identifier: Apache-2.0
"""One balancer's place in its group: what it tells others, and what follows from what they say.

Sans-IO: tell it what happens with the time in seconds of one clock that does not go back, then
ask what holds. What it tells peers goes out through `write`, which must not call back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

import attrs

from galelb.flowshare import SourceAddress
from galelb.group.decisions import Decisions
from galelb.group.ownership import TOGETHER, Member, source_holder, vip_owner
from galelb.group.peers import KnownPeer, Penalty
from galelb.group.quorum import Standing, Verdicts
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
    pack_settings,
)
from galelb.model import IPAddress, Peer

__all__ = ["MAX_PEERS", "GroupState", "Holdings"]

_TOLD_S = 0.5
"""After this the others know that one is ready, and one knows that of them: nobody takes what is
another's. Who had addresses forwards meanwhile, with or without them."""
_LATER_S = 0.25
"""Who comes to a running group waits as long as the others wait for it, and this: what they give
up is gone when it takes it. A kernel that has an address resets what it does not know."""
MAX_PEERS = 256
"""Names that are known at a time, those of dead balancers too."""


@attrs.frozen(kw_only=True)
class Holdings:
    """The addresses that a balancer shall hold now."""

    vips: frozenset[IPAddress] = frozenset()
    """Those that it owns."""
    own: frozenset[IPAddress] = frozenset()
    """Its own translation addresses."""
    inherited: frozenset[IPAddress] = frozenset()
    """Those of balancers that are gone."""
    gateways: frozenset[IPAddress] = frozenset()
    """The nodes' gateways, which move with the VIPs."""


class GroupState:
    """One balancer; `size`: distinct balancers that are configured, oneself among them."""

    def __init__(
        self,
        name: str,
        size: int,
        *,
        places: Collection[tuple[IPAddress, int]] | None = None,
        timeout_s: float,
        about: About,
        settings: Mapping[str, str],
        enforce: bool,
        write: Callable[[str, bytes | None], None],
    ) -> None:
        """`settings`: digests of shared settings by name; `enforce`: others are ignored.

        `places`: where the other balancers are configured to be; None = anywhere.
        """
        self.name = name
        self.peers: dict[str, KnownPeer] = {}
        self.decisions = Decisions(name)
        self._size = size
        self._places = places
        self._timeout_s = timeout_s
        self._verdicts = Verdicts(size, timeout_s)
        self._enforce = enforce
        self._write = write
        self._written: dict[str, bytes] = {}
        self._about = about
        self._take_at = float("-inf")
        self._met = False
        self._away = Penalty()
        self._nodes: dict[str, NodeWord] = {}
        self._sources: dict[str, SourceWord] = {}
        self._heard_at: dict[str, float] = {}
        """When a peer's opinions were last counted."""
        self._put(ABOUT, about.pack())
        self.use_settings(settings)

    # what this balancer says

    @property
    def about(self) -> About:
        """What it says of itself."""
        return self._about

    def say(self, now: float, **changes: object) -> None:
        """Change what it says of itself: fields of `About`."""
        about = attrs.evolve(self._about, **changes)  # type: ignore[arg-type]
        if about != self._about:
            if about.ready and not self._about.ready:
                self._take_at = max(now + _TOLD_S, self._away.until + _LATER_S)
            self._about = about
            self._put(ABOUT, about.pack())
            self._take_stock(now)

    def use_settings(self, settings: Mapping[str, str]) -> None:
        """Tell the digests of shared settings, so that others can say which differ."""
        self._replace(SETTING, {str(n): one for n, one in enumerate(pack_settings(settings))})
        self._settings = dict(settings)

    def use_enforce(self, enforce: bool, now: float) -> None:
        """Ignore balancers with other shared settings from now on, or no longer."""
        self._enforce = enforce
        self._take_stock(now)

    def use_timeout(self, timeout_s: float) -> None:
        """Go on with another checks_timeout."""
        self._timeout_s = timeout_s
        self._verdicts.timeout_s = timeout_s

    def node_said(self, node: str, word: NodeWord | None, now: float) -> None:
        """Tell what it thinks itself of a node; None = nothing (any more)."""
        self._put(NODE + node, None if word is None else word.pack())
        if word is None:
            self._nodes.pop(node, None)
            self._verdicts.forget(node)
        else:
            self._nodes[node] = word
            self._verdicts.say(node, word.routable, now)

    def decide(self, node: str, *, draining: bool, weight: int | None) -> Decision:
        """Note and tell what the operator wants of a node."""
        decision = self.decisions.decide(node, draining=draining, weight=weight)
        self._tell_decision(node)
        return decision

    def load_decisions(self, data: Mapping[str, str]) -> None:
        """Take up the decisions that an earlier run knew, and tell them."""
        self.decisions.load(data)
        for node, _ in self.decisions:
            self._tell_decision(node)

    def use_sources(self, sources: Iterable[SourceWord]) -> None:
        """Tell the addresses that new flows are translated to."""
        self._sources = {str(one.source.address): one for one in sources}
        self._replace(SOURCE, {address: one.pack() for address, one in self._sources.items()})

    def use_copies(self, current: Collection[str], now: float) -> None:
        """Tell whose flows it has a current copy of.

        What it has of a peer that is gone, or has no addresses yet, stays current: nobody else
        changes those flows.
        """
        gone = {
            name
            for name, one in self.peers.items()
            if not one.peer.alive or now < one.penalty.until
        }
        self._replace(COPY, dict.fromkeys(self._copies() & gone | set(current), b"1"))

    # what others say

    def peer_changed(self, peer: Peer, now: float) -> None:
        """Note that a peer joined, died, left, returned or moved."""
        known = self.peers.get(peer.name)
        if known is None:
            if len(self.peers) >= MAX_PEERS and not self._make_room():
                return
            self.peers[peer.name] = known = KnownPeer(attrs.evolve(peer, alive=False), now)
        known.changed(peer, now, late=self._about.ready)
        self._take_stock(now)

    def record_changed(self, name: str, key: str, value: bytes | None, now: float) -> str | None:
        """Take a record of a peer; return a node that another decision holds for now.

        Raises:
            RemoteProtocolError: it cannot be read; what the peer said before stays.
        """
        known = self.peers.get(name)
        if known is None:
            return None
        known.hear(key, value)
        if key.startswith(DECISION) and value is not None:
            return self._merge(key.removeprefix(DECISION), known)
        if key == ABOUT:
            self._take_stock(now)
        elif key.startswith(NODE):
            self._heard_at.pop(name, None)
        return None

    def _merge(self, node: str, known: KnownPeer) -> str | None:
        decision = known.decisions[node]
        if not self.decisions.merge(node, decision):
            return None
        self._tell_decision(node)
        return node

    def _tell_decision(self, node: str) -> None:
        decision = self.decisions.get(node)
        self._put(DECISION + node, None if decision is None else decision.pack())
        for forgotten in self.decisions.take_forgotten():
            self._put(DECISION + forgotten, None)

    # what holds

    @property
    def standing(self) -> Standing:
        """What this balancer is to its group."""
        return self._verdicts.standing

    @property
    def size(self) -> int:
        """Balancers that are configured."""
        return self._size

    def counted(self) -> list[KnownPeer]:
        """Return the live peers whose word counts."""
        return [one for one in self.peers.values() if one.peer.alive and self.heeds(one)]

    def heeds(self, known: KnownPeer) -> bool:
        """Whether a peer's configuration lets its word count."""
        return not self._enforce or (known.about is not None and self.same_config(known) is True)

    def same_config(self, known: KnownPeer) -> bool | None:
        """Whether a peer shares our configuration; None = it has not said."""
        return None if known.about is None else known.about.config == self._about.config

    def differing(self, known: KnownPeer) -> list[str]:
        """Return the names of shared settings that differ between a peer and us, sorted."""
        theirs = known.settings
        if not theirs:
            return []  # they come with the next records
        names = self._settings.keys() | theirs.keys()
        return sorted(n for n in names if self._settings.get(n) != theirs.get(n))

    def verdicts(self, now: float, *, deaf: bool = False) -> dict[str, bool]:
        """Return what the group takes each node for; empty where the own view counts."""
        self._verdicts.listen(now, deaf=deaf)
        self._refresh(now)
        if self.standing is Standing.FORMING:
            return {}
        return self._verdicts.routable(now)

    def strangers(self) -> dict[str, NodeWord]:
        """Return the nodes that only peers hear, with what one of them says."""
        found: dict[str, NodeWord] = {}
        for known in self.counted():
            for node, word in known.nodes.items():
                if node not in self._nodes:
                    found.setdefault(node, word)
        return found

    def members(self, now: float) -> list[Member]:
        """Return the candidates for addresses, oneself first."""
        own = Member(name=self.name, ready=self._about.ready, copies=frozenset(self._copies()))
        return [own, *(known.member(now) for known in self.counted())]

    def owners(
        self, vips: Iterable[IPAddress], now: float, *, together: bool = False
    ) -> dict[IPAddress, str | None]:
        """Return who owns each VIP; with `together` all of them have one owner."""
        members = self.members(now) if self.standing is Standing.QUORATE else []
        return {vip: vip_owner(TOGETHER if together else str(vip), members) for vip in vips}

    def holdings(
        self, vips: Iterable[IPAddress], now: float, gateways: Collection[IPAddress] = ()
    ) -> Holdings:
        """Return the addresses to hold, of these VIPs and gateways and all translation addresses.

        With gateways the VIPs have one owner, and that has them: the way to the nodes and the way
        back are one.
        """
        told = self._about.ready and now >= self._take_at
        if self.standing is not Standing.QUORATE or not told:
            return Holdings()
        members = self.members(now)

        def mine(home: str, words: Mapping[str, SourceWord]) -> Iterator[IPAddress]:
            for address, word in words.items():
                if word.movable and source_holder(address, home, members) == self.name:
                    yield word.source.address

        # A balancer that was killed and came back with another name is no heir of itself.
        taken = {address for known in self.counted() for address in known.sources}
        return Holdings(
            vips=frozenset(
                vip
                for vip in vips
                if vip_owner(TOGETHER if gateways else str(vip), members) == self.name
            ),
            gateways=frozenset(gateways if vip_owner(TOGETHER, members) == self.name else ()),
            own=frozenset(mine(self.name, self._sources)),
            inherited=frozenset(
                address
                for name, known in self.peers.items()
                for address in mine(name, known.sources)
                if str(address) not in self._sources
                and (known.peer.alive or str(address) not in taken)
            ),
        )

    def foreign_sources(self) -> tuple[SourceAddress, ...]:
        """Return the peers' translation addresses, whose flows need room here."""
        return tuple(
            word.source
            for name, known in sorted(self.peers.items())
            for address, word in sorted(known.sources.items())
            if address not in self._sources
        )

    def clashes(self) -> dict[str, str]:
        """Return our translation addresses that live peers have too, with the first by name."""
        found: dict[str, str] = {}
        for name in sorted((known.peer.name for known in self.counted()), reverse=True):
            found |= dict.fromkeys(self._sources.keys() & self.peers[name].sources.keys(), name)
        return found

    def next_wake(self, now: float) -> float:
        """Return when something may hold that does not now, though nothing is heard."""
        due = [self._verdicts.due()]
        due += [at for at in (self._take_at,) if at > now]
        due += [at for one in self.peers.values() if (at := one.penalty.until) > now]
        return min([now + self._timeout_s, *(at for at in due if at is not None)])

    # inside

    def _copies(self) -> set[str]:
        """Return whose flows it tells to have a current copy of."""
        return {key.removeprefix(COPY) for key in self._written if key.startswith(COPY)}

    def _take_stock(self, now: float) -> None:
        """Count who lives; who was cut off and is back does not blame the others for it."""
        was = self._verdicts.standing
        counted = self.counted()
        alive = {known.peer.name for known in counted}
        strangers = sum(not self._configured(known) for known in counted)
        standing = self._verdicts.members(alive, now, strangers=strangers)
        if was is Standing.CUT_OFF and standing is Standing.QUORATE:
            for known in self.peers.values():
                known.penalty.forgive()
        if standing is Standing.CUT_OFF and was is not Standing.CUT_OFF:
            self._met = False
            self._away.died(now)
        self._meet(now)
        self._heard_at = {name: at for name, at in self._heard_at.items() if name in alive}

    def _configured(self, known: KnownPeer) -> bool:
        return self._places is None or (known.peer.address, known.peer.port) in self._places

    def _meet(self, now: float) -> None:
        """See, when the first peer says anything, whether the group has been running."""
        abouts = [known.about for known in self.counted() if known.about is not None]
        if self._met or not abouts:
            return
        self._met = True
        if not self._about.ready and any(about.ready for about in abouts):
            self._away.returned(now)

    def _refresh(self, now: float) -> None:
        """Count opinions that changed; those of live peers stay young though nothing changes."""
        for known in self.counted():
            name = known.peer.name
            if now >= self._heard_at.get(name, float("-inf")) + self._timeout_s:
                words = {node: word.routable for node, word in known.nodes.items()}
                self._verdicts.hear(name, words, now)
                self._heard_at[name] = now

    def _make_room(self) -> bool:
        gone = [one for one in self.peers.values() if not one.peer.alive]
        if not gone:
            return False
        del self.peers[min(gone, key=lambda one: one.since).peer.name]
        return True

    def _put(self, key: str, value: bytes | None) -> None:
        if value is None:
            if self._written.pop(key, None) is not None:
                self._write(key, None)
        elif self._written.get(key) != value:
            self._written[key] = value
            self._write(key, value)

    def _replace(self, prefix: str, values: Mapping[str, bytes]) -> None:
        stale = [key for key in self._written if key.startswith(prefix)]
        for key in stale:
            if key.removeprefix(prefix) not in values:
                self._put(key, None)
        for name, value in values.items():
            self._put(prefix + name, value)
