# SPDX-License-Identifier: Apache-2.0
"""What members tell each other, and what the protocol asks of its caller; plain values."""

from __future__ import annotations

import enum

import attrs

from galelb.model import IPAddress

__all__ = [
    "Ack",
    "Address",
    "Claim",
    "Exchange",
    "Forgotten",
    "Gossip",
    "Left",
    "MemberChanged",
    "Message",
    "Nack",
    "News",
    "Output",
    "Ping",
    "PingRequest",
    "Record",
    "RecordChanged",
    "Send",
    "Snapshot",
    "State",
]

Address = tuple[IPAddress, int]
"""Host and port; UDP and TCP use the same port."""


class State(enum.IntEnum):
    """What is claimed of a member; of two claims with one incarnation the higher state wins."""

    ALIVE = 0
    SUSPECT = 1
    DEAD = 2
    LEFT = 3


@attrs.frozen
class Claim:
    """Somebody's word on a member; `by`: who suspects it, empty for other states."""

    name: str
    address: Address
    incarnation: int
    state: State
    by: str = ""

    @property
    def rank(self) -> tuple[int, State]:
        """What decides between two claims on one member: the higher one holds."""
        return self.incarnation, self.state


@attrs.frozen
class Record:
    """A value that its origin alone writes; None tells that it was deleted."""

    origin: str
    key: str
    version: int
    value: bytes | None

    @property
    def rank(self) -> tuple[int, bool, bytes]:
        """What decides between two records of one origin and key: the higher one holds."""
        return self.version, self.value is None, self.value or b""


News = Claim | Record


@attrs.frozen
class Ping:
    """Asks `target` for an Ack with the same number."""

    number: int
    target: str
    news: tuple[News, ...] = ()


@attrs.frozen
class Ack:
    """The target of a ping, or of a ping request, lives."""

    number: int
    news: tuple[News, ...] = ()


@attrs.frozen
class Nack:
    """The helper works, but has not heard from the target so far (Lifeguard)."""

    number: int


@attrs.frozen
class PingRequest:
    """Asks a helper to ping `target` and to answer with an Ack or a Nack."""

    number: int
    target: str
    address: Address
    news: tuple[News, ...] = ()


@attrs.frozen
class Gossip:
    """News alone."""

    news: tuple[News, ...]


@attrs.frozen
class Snapshot:
    """All that a member knows, over TCP; with `wants_answer` the other side sends its own."""

    news: tuple[News, ...]
    wants_answer: bool


Message = Ping | Ack | Nack | PingRequest | Gossip | Snapshot


@attrs.frozen
class Send:
    """Send the message in one datagram, or as the answer on the TCP stream it belongs to."""

    address: Address
    message: Message


@attrs.frozen
class Exchange:
    """Open a TCP stream to the address, send the message, hand over what is answered.

    A failure needs no report: somebody is asked again later.
    """

    address: Address
    message: Snapshot


@attrs.frozen
class MemberChanged:
    """Another member is in another state, or has moved; `before` is None for a new one."""

    name: str
    address: Address
    incarnation: int
    state: State
    before: State | None


@attrs.frozen
class RecordChanged:
    """Another member's record is new, has changed or is deleted."""

    record: Record


@attrs.frozen
class Forgotten:
    """Nothing is known any more of a member that was dead or had left, nor of its records."""

    name: str


@attrs.frozen
class Left:
    """The group knows that this member leaves: it may stop."""


Output = Send | Exchange | MemberChanged | RecordChanged | Forgotten | Left
