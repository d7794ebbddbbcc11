# SPDX-License-Identifier: Apache-2.0
"""A group of members in virtual time, over a network that loses, delays, duplicates and parts.

Everything follows from the seed. Each clock has an offset and, with `drift`, its own speed.
"""

import heapq
import itertools
import random
from collections import Counter
from ipaddress import IPv4Address

from galelb_plugins.sync_gossip.messages import Exchange, Left, MemberChanged, Send, Snapshot, State
from galelb_plugins.sync_gossip.seal import Seal
from galelb_plugins.sync_gossip.swim import Swim
from galelb_plugins.sync_gossip.wire import MAX_PLAIN, MAX_SNAPSHOT, decode, encode

from galelb.group.handshake import EPOCH_BYTES
from galelb.group.keys import KeyRing

PORT = 7946
RING = KeyRing({1: bytes(32)}, 1)
_WAKE, _MESSAGE = 0, 1  # of what happens at one time, a late wake comes before waiting messages


class Member:
    """A Swim with its clock; `due` is when it wants to be woken, by its clock."""

    def __init__(self, swim, offset, speed):
        self.swim, self.offset, self.speed = swim, offset, speed
        self.running = True
        self.seal = self.epoch = None
        self.slow_s = 0.0
        self.frozen_until = 0.0
        self.due = None
        self.wake_at = None

    def clock(self, now):
        return self.offset + now * self.speed

    def when(self, clock):
        return (clock - self.offset) / self.speed


class Group:
    """`size` members named m00, m01 ...; `delay`: one way, at least and at most, in seconds."""

    seeds = 3
    """How many members are told to all at their start; None = all."""

    def __init__(
        self,
        size,
        seed,
        *,
        loss=0.0,
        delay=(0.0002, 0.002),
        duplicates=0.0,
        drift=0.0,
        settings=None,
        wire=True,
        sealed=False,
    ):
        self.seed, self.loss, self.delay, self.duplicates = seed, loss, delay, duplicates
        self.drift, self.settings, self.wire, self.sealed = drift, settings, wire, sealed
        self.rng = random.Random(seed)
        self.now = 0.0
        self.events = []  # (time, observer, MemberChanged)
        self.left = {}  # name: when it may stop
        self.datagrams = Counter()  # by sender
        self.bytes = Counter()
        self._cut = set()  # (from, to)
        self._heap, self._order = [], itertools.count()
        self.names = [f"m{number:02}" for number in range(size)]
        self._addresses = {
            name: (IPv4Address("10.0.0.1") + number, PORT) for number, name in enumerate(self.names)
        }
        self._owners = {address: name for name, address in self._addresses.items()}
        self.members = {name: self._member(name) for name in self.names}
        for name in self.names:
            self._start(name)

    def __str__(self):
        return f"Group({len(self.names)}, seed={self.seed}, loss={self.loss})"

    # What happens to members.

    def boot(self, name):
        """Start a member anew, without memory."""
        self.members[name] = self._member(name)
        self._start(name)

    def _member(self, name):
        swim = Swim(
            name,
            self._addresses[name],
            rng=random.Random(f"{self.seed} {name} {self.now}"),
            seeds=[self._addresses[one] for one in self.names[: self.seeds]],
            settings=self.settings,
        )
        speed = 1 + self.rng.uniform(-self.drift, self.drift)
        member = Member(swim, self.rng.uniform(0, 1000), speed)
        if self.sealed:
            member.epoch = self.rng.randbytes(EPOCH_BYTES)
            member.seal = Seal(name, self._addresses[name], RING, member.epoch)
        return member

    def _start(self, name):
        member = self.members[name]
        member.swim.start(member.clock(self.now))
        self._after(name)

    def kill(self, name):
        self.members[name].running = False

    def leave(self, name):
        member = self.members[name]
        member.swim.leave(member.clock(self.now))
        self._after(name)

    def write(self, name, key, value):
        self.members[name].swim.write(key, value)
        self._after(name)

    def slow(self, name, seconds):
        """Let a member see every message that much later, while its clock goes on."""
        self.members[name].slow_s = seconds

    def freeze(self, name, seconds):
        """Let a member do nothing for a while; messages wait."""
        self.members[name].frozen_until = self.now + seconds

    def cut(self, sources, targets, *, one_way=False):
        pairs = set(itertools.product(sources, targets))
        self._cut |= pairs if one_way else pairs | {(b, a) for a, b in pairs}

    def heal(self):
        self._cut.clear()

    # Time.

    def run(self, seconds):
        end = self.now + seconds
        while self._heap and self._heap[0][0] <= end:
            self._step()
        self.now = end

    def run_until(self, true, within):
        """Run until it is true; return how long that took, None if it never was."""
        start = self.now
        while not true():
            if not self._heap or self._heap[0][0] > start + within:
                self.now = start + within
                return None
            self._step()
        return self.now - start

    def _step(self):
        at, kind, _, name, what = heapq.heappop(self._heap)
        self.now = max(self.now, at)
        member = self.members[name]
        if not member.running or (kind == _WAKE and member.wake_at != at):
            return
        if member.frozen_until > self.now:
            if kind == _WAKE:
                member.wake_at = member.frozen_until
            self._at(member.frozen_until, kind, name, what)
            return
        if kind == _WAKE:
            member.wake_at = None
            member.swim.wake(max(member.clock(self.now), member.due))
        else:
            self._receive(member, *what)
        self._after(name)

    def _receive(self, member, sender, message):
        """Bytes are a sealed datagram; a message on a stream comes with the sender's epoch."""
        clock = member.clock(self.now)
        if isinstance(message, bytes):
            opened = member.seal.open(message)
            for name in member.seal.take_unproved():
                member.swim.challenge(clock, name)
            if opened is None:
                return
            assert sender == opened[0]
            message = opened[1]
        elif self.sealed:
            message, epoch = message
            member.seal.admit(sender, epoch)
        member.swim.receive(clock, sender, self._addresses[sender], message)

    def _at(self, at, kind, name, what=None):
        heapq.heappush(self._heap, (at, kind, next(self._order), name, what))

    def _after(self, name):
        member = self.members[name]
        for output in member.swim.take():
            self.note(name, output)
            if isinstance(output, Send | Exchange):
                self._send(name, self._owners[output.address], output.message)
            elif isinstance(output, MemberChanged):
                self.events.append((self.now, name, output))
            elif isinstance(output, Left):
                self.left[name] = self.now
                member.running = False
        member.due = member.swim.next_wake()
        at = max(member.when(member.due), self.now)
        if at != member.wake_at:
            member.wake_at = at
            self._at(at, _WAKE, name)

    def note(self, name, output):
        """See what a member wants done; for groups in which more happens than gossip."""

    # The network.

    def _send(self, sender, target, message):
        if self.wire:
            data = encode(message)
            limit = MAX_SNAPSHOT if isinstance(message, Snapshot) else MAX_PLAIN
            assert decode(data, limit) == message
            self.bytes[sender] += len(data)
        if isinstance(message, Snapshot):
            # TCP: nothing is lost, but both ways must be open.
            if not {(sender, target), (target, sender)} & self._cut:
                epoch = self.members[sender].epoch
                self._deliver(sender, target, (message, epoch) if self.sealed else message)
            return
        if self.sealed:
            message = self.members[sender].seal.seal(self._addresses[target], message)
        self.datagrams[sender] += 1
        if (sender, target) in self._cut or self.rng.random() < self.loss:
            return
        self._deliver(sender, target, message)
        if self.duplicates and self.rng.random() < self.duplicates:
            self._deliver(sender, target, message)

    def _deliver(self, sender, target, message):
        at = self.now + self.rng.uniform(*self.delay) + self.members[target].slow_s
        self._at(at, _MESSAGE, target, (sender, message))

    # What there is to see.

    def running(self):
        return [name for name in self.names if self.members[name].running]

    def view(self, name):
        return {claim.name: claim.state for claim in self.members[name].swim.claims()}

    def new_drops(self, seconds):
        """Run, and return the reasons for which sealed datagrams were dropped meanwhile."""
        before = self._drops()
        self.run(seconds)
        return set(self._drops() - before)

    def _drops(self):
        return sum((member.seal.drops for member in self.members.values()), Counter())

    def agree(self, expected):
        """Whether all running members believe this, a state by name."""
        return all(self.view(name) == expected for name in self.running())

    def everybody(self, **others):
        """Return the view in which all live but `others`."""
        return dict.fromkeys(self.names, State.ALIVE) | others

    def form(self):
        """Run until all know all."""
        took = self.run_until(lambda: self.agree(self.everybody()), 60)
        assert took is not None, f"{self} did not form"
        return self

    def seen(self, state, of=None, since=0.0):
        """Return (time, observer, name) of changes to a state."""
        return [
            (at, observer, change.name)
            for at, observer, change in self.events
            if change.state is state and at >= since and of in (None, change.name)
        ]
