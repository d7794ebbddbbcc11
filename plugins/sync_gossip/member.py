# SPDX-License-Identifier: Apache-2.0
"""A member at work: the protocol, driven by the clock, and by what comes in from its sockets."""

from __future__ import annotations

import math
import random
import secrets
import socket
from collections.abc import Mapping
from ipaddress import ip_address

import structlog
import trio
from galelb_plugins.sync_gossip.ledger import Ledger
from galelb_plugins.sync_gossip.messages import (
    Exchange,
    Forgotten,
    Left,
    MemberChanged,
    RecordChanged,
    Send,
    Snapshot,
    State,
)
from galelb_plugins.sync_gossip.options import GossipOptions, choose_ring
from galelb_plugins.sync_gossip.refusals import Refusals
from galelb_plugins.sync_gossip.seal import Seal
from galelb_plugins.sync_gossip.sockets import open_sockets
from galelb_plugins.sync_gossip.streams import Streams
from galelb_plugins.sync_gossip.swim import Swim
from galelb_plugins.sync_gossip.timing import Settings
from galelb_plugins.sync_gossip.trouble import Trouble
from galelb_plugins.sync_gossip.wire import MAX_DATAGRAM, Unreadable

from galelb.group.handshake import EPOCH_BYTES
from galelb.group.keys import KeyRing
from galelb.model import IPAddress
from galelb.transport import TransportContext

__all__ = ["Member"]

log = structlog.get_logger(__name__)

_LEAVE_S = 2.0
_PAUSE_S = 0.05
"""After a socket failed: it may fail each time."""


class Member:
    """One member of the group, from its first record to its end; `run` is called once."""

    def __init__(self, options: GossipOptions, context: TransportContext) -> None:
        self.refusals = Refusals()
        self.datagrams = {"received": 0, "sent": 0}
        self._options = options
        self._context = context
        self._address = (context.address, context.port)
        self.swim = Swim(
            context.name,
            self._address,
            rng=random.SystemRandom(),
            seeds=context.peers,
            settings=settings(options),
        )
        self._ledger = Ledger(context.peer_changed, context.record_changed, self.swim.records_of)
        self._ring: KeyRing | None = None
        self._seal: Seal | None = None
        self._udp: socket.socket | None = None
        self._wake = trio.CancelScope()
        self._left = trio.Event()
        self._trouble = Trouble()
        self.streams = Streams(self)
        self.started_at = math.inf

    @property
    def ring(self) -> KeyRing:
        """The keys in use, once it runs."""
        assert self._ring is not None, "the keys are read by run"
        return self._ring

    @property
    def name(self) -> str:
        """This member's name."""
        return self._context.name

    @property
    def host(self) -> IPAddress:
        """This member's address."""
        return self._context.address

    # What the core asks for.

    def write(self, key: str, value: bytes | None) -> None:
        """Tell all members a record. Raises LocalProtocolError."""
        self.swim.write(key, value)
        self._rearm()

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Work until cancelled. Raises GaleError."""
        self._ring = choose_ring(self._options, self._context)
        epoch = secrets.token_bytes(EPOCH_BYTES)
        self._seal = Seal(self.name, self._address, self._ring, epoch)
        with open_sockets(self._address) as sockets:
            self._udp = sockets.udp
            self.started_at = trio.current_time()
            self.swim.start(self.started_at)
            log.info("sync_gossip_listening", address=str(self.host), port=self._context.port)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hear, self._seal)
                nursery.start_soon(self._keep_time)
                await nursery.start(self.streams.run, sockets.tcp, epoch)
                self.act()
                task_status.started()

    async def leave(self) -> None:
        """Say goodbye, until the group knows or for 2 s."""
        if self._seal is None:
            return
        self.swim.leave(trio.current_time())
        self.act()
        with trio.move_on_after(_LEAVE_S):
            await self._left.wait()

    def reload(self, options: GossipOptions) -> None:
        """Go by other keys and times. Raises GaleError, and goes on as before."""
        ring = choose_ring(options, self._context, self._ring)
        self._options = options
        self.swim.retime(settings(options))
        if self._seal is not None and ring != self._ring:
            self._ring = ring
            self._seal.change_keys(ring)
            log.info("sync_gossip_keys", encrypts=ring.used, decrypts=sorted(ring.keys))

    # What the protocol asks for.

    def act(self) -> list[Snapshot]:
        """Do what the protocol wants done; return what it answers on the stream it heard from."""
        answers: list[Snapshot] = []
        for output in self.swim.take():
            match output:
                case Send(message=Snapshot() as answer):
                    answers.append(answer)
                case Send():
                    self._send(output)
                case Exchange():
                    self.streams.call(output)
                case MemberChanged() | RecordChanged():
                    self._ledger.note(output)
                case Forgotten(name):
                    self._forget(name)
                    self._ledger.note(output)
                case Left():
                    self._left.set()
        self._rearm()
        return answers

    def _forget(self, name: str) -> None:
        if self._seal is not None:
            self._seal.forget(name)

    def _send(self, output: Send) -> None:
        host, port = output.address
        if self._udp is None or self._seal is None:
            return
        if host.version != self.host.version:
            self.refusals.count("other_family")
            return
        try:
            self._udp.sendto(self._seal.seal(output.address, output.message), (str(host), port))
        except BlockingIOError:
            self.refusals.count("not_sent")
        except OSError as error:
            self.refusals.count("not_sent")
            self._trouble.note("send", error)
        else:
            self.datagrams["sent"] += 1

    # Time.

    async def _keep_time(self) -> None:
        while True:
            with trio.CancelScope() as self._wake:
                self._rearm()
                await trio.sleep_forever()
            now = trio.current_time()
            if now >= self.swim.next_wake():
                self.swim.wake(now)
            self.act()

    def _rearm(self) -> None:
        self._wake.deadline = self.swim.next_wake()

    # What others say.

    async def _hear(self, seal: Seal) -> None:
        assert self._udp is not None
        udp = trio.socket.from_stdlib_socket(self._udp)
        while True:
            try:
                data, source = await udp.recvfrom(MAX_DATAGRAM + 1)
            except OSError as error:
                self._trouble.note("receive", error)
                await trio.sleep(_PAUSE_S)
                continue
            self.datagrams["received"] += 1
            self._take(seal, data, (ip_address(source[0].partition("%")[0]), source[1]))

    def _take(self, seal: Seal, data: bytes, source: tuple[IPAddress, int]) -> None:
        now = trio.current_time()
        try:
            sender, message = seal.read(data)
            if isinstance(message, Snapshot):  # on streams only: its answer fits no datagram
                raise Unreadable("unknown_message")
        except Unreadable as error:
            self.refuse(error.reason, source[0])
            for name in seal.take_unproved():
                self.swim.challenge(now, name)
        else:
            self.swim.receive(now, sender, source, message)
        self.act()

    @property
    def counter(self) -> int:
        """The number of the last datagram that was sent."""
        return self._seal.counter if self._seal else 0

    def admit(self, name: str, epoch: bytes, counter: int) -> None:
        """Take the datagrams of who has proved itself. Raises Unreadable when there is no room."""
        if self._seal is None or not self._seal.admit(name, epoch, counter):
            raise Unreadable("too_many_peers")

    def refuse(self, reason: str, source: IPAddress) -> None:
        """Count what is not taken, and say so where somebody has to do something."""
        if reason == "reflected" and source == self.host:
            self.refusals.count(reason)  # oneself, known by two addresses
            return
        meaning = self.refusals.note(reason, source, trio.current_time())
        if meaning:
            log.warning("sync_gossip_refused", source=str(source), reason=reason, text=meaning)

    # What there is to see.

    def members(self) -> Mapping[str, int]:
        """Return how many other members there are, by state."""
        counts = {state.name.lower(): 0 for state in State}
        for claim in self.swim.claims():
            if claim.name != self.name:
                counts[claim.state.name.lower()] += 1
        return counts

    def is_peer(self, host: IPAddress) -> bool:
        """Return whether a configured or known member has that address."""
        if any(host == seed for seed, _ in self._context.peers):
            return True
        return any(host == claim.address[0] for claim in self.swim.claims())

    @property
    def address(self) -> tuple[IPAddress, int]:
        """Where this member listens."""
        return self._address


def settings(options: GossipOptions) -> Settings:
    """Return the protocol's settings that the options mean."""
    return Settings(
        probe_s=options.probe_interval,
        suspicion_periods=options.suspicion_periods,
        forget_s=options.forget_after,
    )
