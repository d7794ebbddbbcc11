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
    "check_first",
    "decode",
    "encode",
]

VERSION = 1
_MAX_NAME = 63
STILL_THERE = 0
"""Number of a Beat amid a long transfer, which only asks for a sign of life."""
MAX_MESSAGE = MAX_BATCH + 2 + _MAX_NAME
_WHOLE_FORM = struct.Struct("!BI")
_BEAT_FORM = struct.Struct("!BQI")
_ACK_FORM = struct.Struct("!BQ")
_MAX_AGE_MS = (1 << 32) - 1
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
    """All flows that there were when the transfer began, so long ago, have been sent."""

    age_ms: int = 0


@attrs.frozen
class Beat:
    """Everything that had changed so long ago has been sent; asks for an Ack with its number."""

    number: int
    age_ms: int = 0


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
        case Whole(age):
            return _WHOLE_FORM.pack(_WHOLE, min(age, _MAX_AGE_MS))
        case Beat(number, age):
            return _BEAT_FORM.pack(_BEAT, number, min(age, _MAX_AGE_MS))
        case Ack(number):
            return _ACK_FORM.pack(_ACK, number)


def decode(data: bytes) -> Message:
    """Return the message in some bytes. Raises RemoteProtocolError."""
    kind = data[0] if data else 0
    if kind == _HELLO and len(data) == 2:
        return Hello(data[1])
    if kind == _WHOLE and len(data) == _WHOLE_FORM.size:
        return Whole(*_WHOLE_FORM.unpack(data)[1:])
    if kind == _BEAT and len(data) == _BEAT_FORM.size:
        return Beat(*_BEAT_FORM.unpack(data)[1:])
    if kind == _ACK and len(data) == _ACK_FORM.size:
        return Ack(*_ACK_FORM.unpack(data)[1:])
    if kind == _BATCH:
        return _batch(data)
    raise RemoteProtocolError(f"connection sharing: no message of kind {kind}")


def check_first(message: Message | None) -> None:
    """Make sure that a stream begins as it must. Raises RemoteProtocolError."""
    if not isinstance(message, Hello):
        raise RemoteProtocolError("connection sharing: a stream that begins without a hello")
    if message.version != VERSION:
        theirs = f"version {message.version}, this balancer speaks {VERSION}"
        raise RemoteProtocolError(f"connection sharing: the peer speaks {theirs}")


def _batch(data: bytes) -> Batch:
    length = data[1] if len(data) > 1 else 0
    name, content = data[2 : 2 + length], data[2 + length :]
    if not 0 < length <= _MAX_NAME or len(name) < length or not name.isascii():
        raise RemoteProtocolError("connection sharing: a batch without a forwarder's name")
    if len(content) > MAX_BATCH:
        raise RemoteProtocolError(f"connection sharing: a batch of {len(content)} bytes")
    return Batch(name.decode(), content)
