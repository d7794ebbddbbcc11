# SPDX-License-Identifier: Apache-2.0
"""One member of the group: SWIM with Lifeguard's extensions, without clock, sockets or threads.

Das, Gupta and Motivala, "SWIM: Scalable Weakly-consistent Infection-style Process Group Membership
Protocol" (2002); Dadgar, Phillips and Currey, "Lifeguard: Local Health Awareness for More Accurate
Failure Detection" (2017). What differs from them: docs/design/005-gossip.md.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence

from galelb_plugins.sync_gossip.dissemination import Queue
from galelb_plugins.sync_gossip.knowledge import Knowledge
from galelb_plugins.sync_gossip.messages import (
    Ack,
    Address,
    Claim,
    Exchange,
    Gossip,
    Left,
    Message,
    Nack,
    News,
    Output,
    Ping,
    PingRequest,
    Record,
    Send,
    Snapshot,
    State,
)
from galelb_plugins.sync_gossip.probing import Health, Probe, Relay, Relays
from galelb_plugins.sync_gossip.timing import Settings, Timing, timing
from galelb_plugins.sync_gossip.wire import NEWS_BUDGET, SNAPSHOT_NEWS

__all__ = ["Swim"]

_NUMBERS = 1 << 32
_BACKLOG = 200
"""Pieces of news that datagrams spread within a second or so; of more, all is compared soon."""
_CHALLENGE_S = 0.5
"""A stream that is being opened may take as long; datagrams keep coming until then."""


class Swim:
    """A member. Feed it times and messages, then do what `take` returns.

    Times are seconds of any clock that does not go back. `wake` is to be called at `next_wake`;
    a call that comes late is understood as time during which this member did not run.
    """

    def __init__(
        self,
        name: str,
        address: Address,
        *,
        rng: random.Random,
        seeds: Sequence[Address] = (),
        settings: Settings | None = None,
    ) -> None:
        """`seeds`: where others may be; one's own address among them does no harm."""
        self.name = name
        self.drops: Counter[str] = Counter()
        """Messages that were not taken, by reason."""
        self._settings = settings or Settings()
        self._rng = rng
        self._seeds = [seed for seed in seeds if seed != address]
        self._outputs: list[Output] = []
        self._queue = Queue(self._settings.queue)
        self._health = Health(self._settings.worst_health)
        own = Claim(name, address, 0, State.ALIVE)
        self._known = Knowledge(own, self._settings, rng, self._queue, self._health, self._outputs)
        self._relays = Relays(self._settings.relays)
        self._number = rng.randrange(_NUMBERS)
        self._probe: Probe | None = None
        self._probe_at = self._gossip_at = self._exchange_at = self._reconnect_at = math.inf
        self._left_at = math.inf
        self._challenged: dict[str, float] = {}

    # What the caller does.

    def start(self, now: float) -> None:
        """Join: ask the seeds, and go on asking until somebody answers."""
        times = self._timing
        self._probe_at = now + self._rng.random() * times.probe_s
        self._gossip_at = now
        self._exchange_at = now + self._rng.random() * times.exchange_s
        self._reconnect_at = now + times.reconnect_s
        self._outputs += [Exchange(seed, self._snapshot(True)) for seed in self._seeds]

    def leave(self, now: float) -> None:
        """Leave gracefully: tell everyone, answer for a while; `Left` says when it is done."""
        self._known.leave()
        goodbye = Gossip((self._known.own,))
        self._outputs += [Send(one.address, goodbye) for one in self._known.members.live()]
        self._probe_at = self._exchange_at = self._reconnect_at = math.inf
        self._probe = None
        times = self._timing
        self._left_at = now + 2 * times.probe_s + times.retransmits * times.gossip_s

    def write(self, key: str, value: bytes | None) -> None:
        """Tell all members a value, or with None that there is none any more.

        Raises:
            LocalProtocolError: key or value are too long, or there are too many records.
        """
        record = self._known.records.write(key, value)
        if record is not None:
            self._queue.add(record)

    def challenge(self, now: float, name: str) -> None:
        """Open a stream to a member whose datagrams are not taken yet; at most one in a while."""
        claim = self._known.members.get(name)
        if claim is None or now < self._challenged.get(name, -math.inf) + _CHALLENGE_S:
            return
        if len(self._challenged) >= self._settings.members:
            self._challenged.clear()
        self._challenged[name] = now
        self._exchange([claim])

    def retime(self, settings: Settings) -> None:
        """Go by other times from the next probe on; sizes stay as they are."""
        self._settings = self._known.settings = settings

    def take(self) -> list[Output]:
        """Return what is to be done, in this order, and forget it."""
        outputs = self._outputs[:]
        self._outputs.clear()
        return outputs

    def next_wake(self) -> float:
        """Return when `wake` is due, which every call may change."""
        return min(
            self._probe_at,
            self._probe.next_deadline() if self._probe else math.inf,
            self._relays.next_deadline(),
            self._known.next_deadline(),
            self._gossip_at if self._has_gossip() else math.inf,
            self._exchange_at,
            self._reconnect_at,
            self._left_at,
        )

    # What there is to see.

    def claims(self) -> Iterator[Claim]:
        """Yield what holds on every member, oneself first."""
        yield self._known.own
        yield from self._known.members

    def records(self) -> Iterator[Record]:
        """Yield all records, deleted ones too."""
        return iter(self._known.records)

    def records_of(self, name: str) -> list[Record]:
        """Return the records of one member, without deleted ones."""
        return self._known.records.of(name)

    def unmet(self) -> list[Address]:
        """Return the seeds where nobody was ever met."""
        met = {claim.address for claim in self._known.members}
        return [seed for seed in self._seeds if seed not in met]

    @property
    def health(self) -> int:
        """Lifeguard's score: 0 is well."""
        return self._health.score

    # Messages.

    def receive(self, now: float, sender: str, address: Address, message: Message) -> None:
        """Take a message of the authenticated `sender`, to be answered at `address`."""
        if sender == self.name:
            self.drops["from_oneself"] += 1
            return
        if not isinstance(message, Nack):
            whole = isinstance(message, Snapshot)
            self._known.hear(now, sender, message.news, whole=whole)
        match message:
            case Ping():
                self._on_ping(sender, address, message)
            case Ack():
                self._on_ack(sender, message)
            case Nack():
                self._on_nack(sender, message)
            case PingRequest():
                self._on_request(now, address, message)
            case Gossip():
                self._on_gossip(address, message)
            case Snapshot(wants_answer=True):
                self._outputs.append(Send(address, self._snapshot(False)))

    def _on_ping(self, sender: str, address: Address, ping: Ping) -> None:
        if ping.target != self.name:
            self.drops["for_another"] += 1
            return
        # Who is held for dead or suspect hears it here, and refutes it.
        news = self._news(self._accusation(sender), self._refutation(ping.news))
        self._outputs.append(Send(address, Ack(ping.number, news)))

    def _on_ack(self, sender: str, ack: Ack) -> None:
        relay = self._relays.acked(ack.number, sender)
        if relay is not None:
            self._outputs.append(Send(relay.origin, Ack(relay.number)))
        elif self._probe and self._probe.number == ack.number and not self._probe.acked:
            self._probe.acked = True
            self._health.note(-1)
        else:
            self.drops["late_ack"] += 1

    def _on_nack(self, sender: str, nack: Nack) -> None:
        if self._probe and self._probe.number == nack.number:
            self._probe.nacks.add(sender)
        else:
            self.drops["late_nack"] += 1

    def _on_request(self, now: float, address: Address, request: PingRequest) -> None:
        number = self._next_number()
        relay = Relay(address, request.number, request.target, now + self._timing.nack_s)
        if not self._relays.add(number, relay):
            self.drops["too_many_relays"] += 1
            return
        self._ping(number, request.target, request.address)

    def _on_gossip(self, address: Address, gossip: Gossip) -> None:
        refutation = self._refutation(gossip.news)
        if refutation is not None:
            self._outputs.append(Send(address, Gossip((refutation,))))

    # Time.

    def wake(self, now: float) -> None:
        """Do what is due."""
        late = now - self._probe_at
        if late > self._timing.ack_s * self._health.factor:
            self._overslept(late)
        self._outputs += [Send(one.origin, Nack(one.number)) for one in self._relays.expired(now)]
        self._go_on_probing(now)
        self._known.expire(now)
        if now >= self._gossip_at and self._has_gossip():
            self._gossip(now)
        if len(self._queue) > _BACKLOG:
            self._exchange_at = min(self._exchange_at, now + 2 * self._timing.probe_s)
        if now >= self._exchange_at:
            self._exchange_at = now + self._timing.exchange_s
            self._exchange(self._known.members.pick(1))
        if now >= self._reconnect_at:
            self._reconnect_at = now + self._timing.reconnect_s * self._rng.uniform(0.75, 1.25)
            self._reconnect()
        if now >= self._left_at:
            self._left_at = math.inf
            self._outputs.append(Left())

    def _overslept(self, late: float) -> None:
        """Blame oneself: answers may lie unread, so nobody's time-out has run meanwhile."""
        self._health.note(1)
        self._known.suspicions.postpone(late)
        self._probe_at += late
        if self._probe:
            self._probe.helpers_at += late
            self._probe.fails_at += late

    def _go_on_probing(self, now: float) -> None:
        probe = self._probe
        if probe and not probe.acked and now >= probe.fails_at:
            self._probe = None
            self._health.note(probe.verdict())
            self._known.suspect(now, probe.target)
        elif probe and not probe.acked and now >= probe.helpers_at:
            probe.helpers_at = math.inf
            self._ask_helpers(probe)
        if now >= self._probe_at:
            self._probe_at = now + self._timing.probe_s * self._health.factor
            self._start_probe(now)

    def _start_probe(self, now: float) -> None:
        target = self._known.members.next_target()
        if target is None:
            self._probe = None
            return
        helpers_at = now + self._timing.ack_s * self._health.factor
        number = self._next_number()
        self._probe = Probe(number, target.name, helpers_at, self._probe_at)
        self._ping(number, target.name, target.address)

    def _ask_helpers(self, probe: Probe) -> None:
        target = self._known.members.get(probe.target)
        if target is None:
            return
        for helper in self._known.members.pick(self._settings.helpers, {probe.target}):
            news = self._news(self._accusation(helper.name))
            request = PingRequest(probe.number, target.name, target.address, news)
            self._outputs.append(Send(helper.address, request))
            probe.asked += 1

    def _ping(self, number: int, target: str, address: Address) -> None:
        """Buddy system (Lifeguard): a suspect always hears of it with the ping."""
        ping = Ping(number, target, self._news(self._accusation(target)))
        self._outputs.append(Send(address, ping))

    def _gossip(self, now: float) -> None:
        self._gossip_at = now + self._timing.gossip_s
        for one in self._known.members.pick(self._settings.fanout):
            news = self._news(self._accusation(one.name))
            if news:
                self._outputs.append(Send(one.address, Gossip(news)))

    def _exchange(self, others: Sequence[Claim]) -> None:
        self._outputs += [Exchange(one.address, self._snapshot(True)) for one in others]

    def _reconnect(self) -> None:
        """Ask one of those that are dead to us or have not been met: a cut may have healed."""
        missing = {claim.address for claim in self._known.members if claim.state is State.DEAD}
        missing.update(self.unmet())
        if missing:
            address = self._rng.choice(sorted(missing, key=str))
            self._outputs.append(Exchange(address, self._snapshot(True)))

    # Helpers.

    @property
    def _timing(self) -> Timing:
        return timing(self._settings, len(self._known.members.live()) + 1)

    def _has_gossip(self) -> bool:
        return len(self._queue) > 0 and len(self._known.members.live()) > 0

    def _next_number(self) -> int:
        self._number = (self._number + 1) % _NUMBERS
        return self._number

    def _news(self, *first: Claim | None) -> tuple[News, ...]:
        return self._queue.take(NEWS_BUDGET, self._timing.retransmits, first)

    def _refutation(self, news: Sequence[News]) -> Claim | None:
        """Return the claim on oneself if the news has an older one: its sender missed it."""
        own = self._known.own
        claims = (one for one in news if isinstance(one, Claim) and one.name == self.name)
        return own if any(claim.rank < own.rank for claim in claims) else None

    def _accusation(self, name: str) -> Claim | None:
        claim = self._known.members.get(name)
        return claim if claim is not None and claim.state is not State.ALIVE else None

    def _snapshot(self, wants_answer: bool) -> Snapshot:
        """All that is known; of too many records some, and others the next time."""
        claims, records = list(self.claims()), list(self.records())
        room = SNAPSHOT_NEWS - len(claims)
        if len(records) > room:
            records = self._rng.sample(records, room)
        return Snapshot((*claims, *records), wants_answer)
