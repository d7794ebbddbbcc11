# SPDX-License-Identifier: Apache-2.0
"""Tables of packet cases: given, packet, verdict, reason, expected packet."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import attrs

from galelb.abi import Reason
from galelb.model import Service
from galelb.testing.checksums import checksum_problems
from galelb.testing.conversation import Conversation
from galelb.testing.dissect import describe
from galelb.testing.runner import Outcome, PacketRunner, Verdict
from galelb.testing.world import LOCAL_CLIENTS, PRIVATE, PUBLIC

__all__ = ["EVERY_KIND", "PacketCase", "Play", "check", "established", "nothing", "opened", "table"]

EVERY_KIND = ("tcp4", "udp4", "tcp6", "udp6")
"""Protocol and family of the conversation that a case is played with."""

_clients = itertools.count(1)


@attrs.define
class Play:
    """A conversation on a runner; every case gets one with a client that nobody used before."""

    runner: PacketRunner
    talk: Conversation
    outcomes: list[Outcome] = attrs.Factory(list)

    @classmethod
    def start(
        cls, runner: PacketRunner, service: Service, *, full_nat: bool = True, local: bool = False
    ) -> Play:
        """Begin with a fresh client port, and a fresh address unless the client is local."""
        number = next(_clients)
        version = service.vip.version
        address = LOCAL_CLIENTS[version] if local else fresh_client(version, number)
        port = 20000 + number % 40000
        return cls(runner, Conversation(service, address, port, full_nat, local))

    @property
    def tcp(self) -> bool:
        """Whether the service is TCP."""
        return self.talk.protocol == "tcp"

    @property
    def last(self) -> Outcome:
        """What became of the last packet."""
        return self.outcomes[-1]

    def send(self, data: bytes, ingress: str = PUBLIC) -> Outcome:
        """Run a frame; the first one that is forwarded tells the node and the source port."""
        outcome = self.runner.run(data, ingress)
        self.outcomes.append(outcome)
        if self.talk.node is None and outcome.reason is Reason.FORWARDED:
            self.talk.learn(outcome.data, self.runner.world.nodes)
        return outcome

    @property
    def client_side(self) -> str:
        """The interface that the client's packets arrive on."""
        return PRIVATE if self.talk.local else PUBLIC

    def open(self) -> Outcome:
        """Send the client's first packet."""
        first = {"flags": "S"} if self.tcp else {}
        return self.send(self.talk.to_vip(**first), self.client_side)

    def establish(self) -> None:
        """Make the flow established: both sides have spoken, and TCP has shaken hands."""
        self.open()
        self.send(self.talk.from_node(**({"flags": "SA"} if self.tcp else {})), PRIVATE)
        if self.tcp:
            self.send(self.talk.to_vip(flags="A"), self.client_side)


def fresh_client(version: int, number: int) -> str:
    """Return a client address of that family, behind the gateway."""
    if version == 6:
        return f"2001:db8:f::{number:x}"
    return f"203.0.{113 + (number >> 8) % 100}.{number % 250 + 1}"


def nothing(play: Play) -> None:
    """Given: no packet before."""


def opened(play: Play) -> None:
    """Given: the client's first packet went to a node."""
    play.open()


def established(play: Play) -> None:
    """Given: an established flow."""
    play.establish()


@attrs.frozen(kw_only=True)
class PacketCase:
    """One row: what happened before, the packet, and what must become of it.

    `expect` builds the packet that must leave; None with verdict PASS means the packet itself.
    """

    name: str
    packet: Callable[[Play], bytes]
    verdict: Verdict
    reason: Reason
    expect: Callable[[Play], bytes] | None = None
    out: str = ""
    given: Callable[[Play], None] = nothing
    ingress: str = PUBLIC
    kinds: tuple[str, ...] = EVERY_KIND
    modes: tuple[str, ...] = ("full_nat", "dnat")
    contexts: tuple[str, ...] = ("xdp", "tc")

    def __str__(self) -> str:
        return self.name.replace(" ", "_")


def check(case: PacketCase, play: Play) -> None:
    """Play a case; an assertion fails with a line about the packet."""
    case.given(play)
    data = case.packet(play)
    outcome = play.send(data, case.ingress)
    wanted = case.verdict
    if play.runner.context == "tc" and wanted is Verdict.TX:
        wanted = Verdict.REDIRECT

    assert (wanted, case.reason) == (outcome.verdict, outcome.reason), f"{outcome}"
    if wanted is Verdict.PASS:
        assert data == outcome.data, "passed, but not untouched"
    if case.expect is not None:
        expected = case.expect(play)
        assert expected == outcome.data, f"\n{describe(expected)}\n{describe(outcome.data)}"
    if wanted in (Verdict.TX, Verdict.REDIRECT):
        assert checksum_problems(outcome.data) == []
        assert not case.out or case.out == outcome.out


def table(cases: Sequence[PacketCase]) -> list[tuple[str, str, str, PacketCase]]:
    """Return every way to play the cases: (mode, context, kind, case), for parametrize."""
    return [
        (mode, context, kind, case)
        for case in cases
        for mode in case.modes
        for context in case.contexts
        for kind in case.kinds
    ]
