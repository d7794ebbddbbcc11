# SPDX-License-Identifier: Apache-2.0
"""What a member makes of news: which claims hold, who is suspected, what it says of itself."""

from __future__ import annotations

import random
from collections.abc import Iterable

import attrs
from galelb_plugins.sync_gossip.dissemination import Queue
from galelb_plugins.sync_gossip.members import Members
from galelb_plugins.sync_gossip.messages import (
    Claim,
    Forgotten,
    Gossip,
    MemberChanged,
    News,
    Output,
    Record,
    RecordChanged,
    Send,
    State,
)
from galelb_plugins.sync_gossip.probing import Health
from galelb_plugins.sync_gossip.records import Records
from galelb_plugins.sync_gossip.suspicion import Suspicions
from galelb_plugins.sync_gossip.timing import Settings, timing

__all__ = ["Knowledge"]

_ACCUSATIONS = (State.SUSPECT, State.DEAD)
_GONE = (State.DEAD, State.LEFT)


class Knowledge:
    """Members and records as one member knows them; what changes is queued and reported."""

    def __init__(
        self,
        own: Claim,
        settings: Settings,
        rng: random.Random,
        queue: Queue,
        health: Health,
        outputs: list[Output],
    ) -> None:
        self.own = own
        self.members = Members(settings.members, rng)
        self.records = Records(own.name, settings.members + 1, settings.records)
        self.suspicions = Suspicions()
        self._forgotten: dict[str, tuple[int, float]] = {}
        """Incarnation and time: what others, who forget later, say of them is no news."""
        self.settings = settings
        self._queue = queue
        self._health = health
        self._outputs = outputs
        self._queue.add(own)

    def leave(self) -> None:
        """Say of oneself that one has left."""
        self.own = attrs.evolve(self.own, state=State.LEFT)
        self._queue.add(self.own)

    def hear(self, now: float, sender: str, news: Iterable[News], *, whole: bool) -> None:
        """Take news; `whole`: it is all that the sender knows, and may be old.

        Who is held for dead here, or was a moment ago, may hold everyone for dead, after a cut:
        what it says against others is no more than told to them.
        """
        credible = self._is_credible(sender, now)
        for one in news:
            if isinstance(one, Record):
                self._hear_record(one)
            elif one.name == self.own.name:
                self._defend(one)
            elif one.name == sender or one.state not in _ACCUSATIONS:
                self._merge(now, one)
            elif credible:
                self._accuse(now, one, whole=whole)
            else:
                self._tell_accused(one)

    def _is_credible(self, sender: str, now: float) -> bool:
        known = self.members.get(sender)
        if known is None:
            return True
        # So long its own news of deaths may be on its way; it hears meanwhile that they are none.
        times = timing(self.settings, len(self.members.live()) + 1)
        return known.state not in _GONE and (
            now >= self.members.returned(sender) + times.suspicion_most_s
        )

    def suspect(self, now: float, name: str) -> None:
        """Suspect a member oneself: its probe has failed."""
        claim = self.members.get(name)
        if claim is None or claim.state in _GONE or self.own.state is State.LEFT:
            return
        self._merge(now, attrs.evolve(claim, state=State.SUSPECT, by=self.own.name))
        self._tell_accused(attrs.evolve(claim, state=State.SUSPECT, by=self.own.name))

    def expire(self, now: float) -> None:
        """Declare dead who has not refuted, and forget who has been gone for long."""
        for name in self.suspicions.expired(now):
            claim = self.members.get(name)
            self.suspicions.drop(name)
            if claim is not None:
                self._merge(now, attrs.evolve(claim, state=State.DEAD, by=""))
        before = now - self.settings.forget_s
        for name in self.members.forgettable(before):
            self._forget(now, name)
        while self._forgotten and next(iter(self._forgotten.values()))[1] < before:
            del self._forgotten[next(iter(self._forgotten))]

    def next_deadline(self) -> float:
        """Return when `expire` has something to do about a suspicion."""
        return self.suspicions.next_deadline()

    def _accuse(self, now: float, claim: Claim, *, whole: bool) -> None:
        """Take it that a member is suspect or dead; of old news, at most suspect.

        A snapshot may be from before a refutation that its sender has not heard of.
        """
        known = self.members.get(claim.name)
        if whole and claim.state is State.DEAD and known is not None and known.state not in _GONE:
            claim = attrs.evolve(claim, state=State.SUSPECT, by=self.own.name)
        self._merge(now, claim)

    def _merge(self, now: float, claim: Claim) -> None:
        known = self.members.get(claim.name)
        if known is None and self._is_forgotten(claim):
            return
        if known is None or claim.rank > known.rank:
            self._adopt(now, claim, known)
        elif claim.rank == known.rank and self.suspicions.confirm(claim.name, claim.by):
            self._queue.add(claim)

    def _adopt(self, now: float, claim: Claim, known: Claim | None) -> None:
        if not self._make_room(now, claim.name):
            return
        self._forgotten.pop(claim.name, None)
        self.members.put(claim, now)
        self._queue.add(claim)
        if claim.state is State.SUSPECT:
            self._start_suspicion(now, claim)
        else:
            self.suspicions.drop(claim.name)
        before = known.state if known else None
        if known is None or before is not claim.state or known.address != claim.address:
            change = MemberChanged(
                claim.name, claim.address, claim.incarnation, claim.state, before
            )
            self._outputs.append(change)

    def _make_room(self, now: float, name: str) -> bool:
        if not self.members.has_room(name):
            gone = self.members.longest_gone()
            if gone is None:
                return False
            self._forget(now, gone)
        return True

    def _forget(self, now: float, name: str) -> None:
        claim = self.members.get(name)
        if claim is not None:
            self._forgotten[name] = claim.incarnation, now
        if len(self._forgotten) > self.settings.members:
            del self._forgotten[next(iter(self._forgotten))]
        self.members.forget(name)
        self.records.forget(name)
        self._outputs.append(Forgotten(name))

    def _is_forgotten(self, claim: Claim) -> bool:
        """Whether a claim is no more than what was forgotten already."""
        if claim.name not in self._forgotten:
            return False
        return claim.state in _GONE and claim.incarnation <= self._forgotten[claim.name][0]

    def _start_suspicion(self, now: float, claim: Claim) -> None:
        size = len(self.members.live()) + 1
        times = timing(self.settings, size)
        self.suspicions.start(
            claim.name,
            claim.by,
            now,
            least_s=times.suspicion_least_s,
            most_s=times.suspicion_most_s,
            # Neither the suspect nor its accuser can confirm.
            wanted=min(self.settings.confirmations, size - 2),
        )
        self.members.probe_next(claim.name)

    def _defend(self, claim: Claim) -> None:
        """Refute what is said of oneself with a higher incarnation."""
        same = claim.rank == self.own.rank and claim.address == self.own.address
        if claim.rank < self.own.rank or same:
            return
        if claim.state in _ACCUSATIONS:
            self._health.note(1)
        self.own = attrs.evolve(self.own, incarnation=claim.incarnation + 1)
        self._queue.add(self.own)

    def _tell_accused(self, claim: Claim) -> None:
        known = self.members.get(claim.name)
        if known is not None and claim.rank >= known.rank:
            self._outputs.append(Send(known.address, Gossip((claim,))))

    def _hear_record(self, record: Record) -> None:
        if record.origin in self._forgotten:
            return
        merged = self.records.merge(record)
        if merged is None:
            return
        self._queue.add(merged)
        if merged.origin != self.own.name:
            self._outputs.append(RecordChanged(merged))
