# SPDX-License-Identifier: Apache-2.0
"""What balancers say to each other when they share flows, as bytes: docs/reference/sharing.md.

One balancer dials another and fetches its flows; the other sends them. Messages travel in sealed
frames (galelb/group/handshake.py), so nobody without the key says or reads any of them.
"""

from __future__ import annotations

import struct

import attrs

from galelb.errors import RemoteProtocolError
from galelb.flowshare import MAX_BATCH

__all__ = [
    "MAX_MESSAGE",
    "STILL_THERE",
    "VERSION",
    "Ack",
    "Batch",
    "Beat",
    "Hello",
    "Message",
    "Whole",
    "decode",
    "encode",
]

VERSION = 1
_MAX_NAME = 63
STILL_THERE = 0
"""Number of a Beat amid a long transfer, which only asks for a sign of life."""
MAX_MESSAGE = MAX_BATCH + 2 + _MAX_NAME
_NUMBER = struct.Struct("!BQ")
_HELLO, _BATCH, _WHOLE, _BEAT, _ACK = 1, 2, 3, 4, 5


@attrs.frozen
class Hello:
    """The first message of either side."""

    version: int = VERSION


@attrs.frozen
class Batch:
    """Flows of one forwarder, in that forwarder's own form."""

    forwarder: str
    data: bytes


@attrs.frozen
class Whole:
    """All flows that there were when the transfer began have been sent."""


@attrs.frozen
class Beat:
    """Everything that changed before this has been sent; asks for an Ack with its number."""

    number: int


@attrs.frozen
class Ack:
    """Everything before the Beat of this number has been taken in."""

    number: int


Message = Hello | Batch | Whole | Beat | Ack


def encode(message: Message) -> bytes:
    """Return a message as bytes, at most `MAX_MESSAGE`."""
    match message:
        case Hello(version):
            return bytes([_HELLO, version])
        case Batch(forwarder, data):
            name = forwarder.encode()
            return bytes([_BATCH, len(name)]) + name + data
        case Whole():
            return bytes([_WHOLE])
        case Beat(number):
            return _NUMBER.pack(_BEAT, number)
        case Ack(number):
            return _NUMBER.pack(_ACK, number)


def decode(data: bytes) -> Message:
    """Return the message in some bytes. Raises RemoteProtocolError."""
    kind = data[0] if data else 0
    if kind == _HELLO and len(data) == 2:
        return Hello(data[1])
    if kind == _WHOLE and len(data) == 1:
        return Whole()
    if kind in (_BEAT, _ACK) and len(data) == _NUMBER.size:
        number: int = _NUMBER.unpack(data)[1]
        return Beat(number) if kind == _BEAT else Ack(number)
    if kind == _BATCH:
        return _batch(data)
    raise RemoteProtocolError(f"connection sharing: no message of kind {kind}")


def _batch(data: bytes) -> Batch:
    length = data[1] if len(data) > 1 else 0
    name, content = data[2 : 2 + length], data[2 + length :]
    if not 0 < length <= _MAX_NAME or len(name) < length or not name.isascii():
        raise RemoteProtocolError("connection sharing: a batch without a forwarder's name")
    if len(content) > MAX_BATCH:
        raise RemoteProtocolError(f"connection sharing: a batch of {len(content)} bytes")
    return Batch(name.decode(), content)
