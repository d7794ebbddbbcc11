# SPDX-License-Identifier: Apache-2.0
"""The wire format, version 1: docs/reference/gossip.md.

Fixed fields in network order, packed by struct: nothing to install, no types that a sender could
choose, and every length has a bound that is checked before anything is made of it.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

from galelb_plugins.sync_gossip.messages import (
    Ack,
    Address,
    Claim,
    Gossip,
    Message,
    Nack,
    News,
    Ping,
    PingRequest,
    Record,
    Snapshot,
    State,
)

from galelb.group.reader import MAX_NAME, Reader, Unreadable

__all__ = [
    "MAX_DATAGRAM",
    "MAX_KEY",
    "MAX_NAME",
    "MAX_PLAIN",
    "MAX_SNAPSHOT",
    "MAX_VALUE",
    "NEWS_BUDGET",
    "SEAL_OVERHEAD",
    "SNAPSHOT_NEWS",
    "VERSION",
    "Unreadable",
    "decode",
    "encode",
    "size_of",
]

VERSION = 1
MAX_KEY = 64
MAX_VALUE = 512
MAX_DATAGRAM = 1400
"""Bytes of UDP payload, sealed: fits an MTU of 1,500 with IPv6 and a tunnel or two around it."""
SEAL_OVERHEAD = 43 + MAX_NAME
"""What sealing adds at most; plugins/sync_gossip/seal.py."""
MAX_PLAIN = MAX_DATAGRAM - SEAL_OVERHEAD
MAX_SNAPSHOT = 8 << 20
"""Bytes of a snapshot."""
SNAPSHOT_NEWS = 12_000
"""Pieces of news that fit into any snapshot."""
_MAX_NEWS = 1 << 16
_MAX_NUMBER = (1 << 63) - 1
"""Incarnations and versions from others; one's own answers stay encodable above it."""

_HEADER = struct.Struct("!BB")
_NUMBER = struct.Struct("!I")
_COUNT = struct.Struct("!I")
_CLAIM = struct.Struct("!BQ")
_RECORD = struct.Struct("!BQ")
_NEWS_OVERHEAD = _HEADER.size + _NUMBER.size + (1 + MAX_NAME) + 19 + _COUNT.size
"""The longest message without news: a ping request for an IPv6 address."""
NEWS_BUDGET = MAX_PLAIN - _NEWS_OVERHEAD
"""Bytes of news that fit into any datagram."""

_IS_RECORD = 16
_IS_DELETED = 32
_KINDS: dict[int, type[Message]] = {
    1: Ping,
    2: Ack,
    3: Nack,
    4: PingRequest,
    5: Gossip,
    6: Snapshot,
}
_CODES = {kind: code for code, kind in _KINDS.items()}


def encode(message: Message) -> bytes:
    """Return a message as bytes; names, keys and values must be within their bounds."""
    parts = [_HEADER.pack(VERSION, _CODES[type(message)])]
    if isinstance(message, Ping | Ack | Nack | PingRequest):
        parts.append(_NUMBER.pack(message.number))
    if isinstance(message, Ping | PingRequest):
        parts.append(_text(message.target))
    if isinstance(message, PingRequest):
        parts.append(_address(message.address))
    if isinstance(message, Snapshot):
        parts.append(bytes([message.wants_answer]))
    if not isinstance(message, Nack):
        parts.append(_COUNT.pack(len(message.news)))
        parts += map(_news, message.news)
    return b"".join(parts)


def size_of(news: News) -> int:
    """Return the bytes that a piece of news takes."""
    if isinstance(news, Claim):
        host = len(news.address[0].packed)
        return _CLAIM.size + 5 + host + len(news.name.encode()) + len(news.by.encode())
    value = 0 if news.value is None else 2 + len(news.value)
    return _RECORD.size + 2 + len(news.origin.encode()) + len(news.key.encode()) + value


def decode(data: bytes, limit: int = MAX_PLAIN) -> Message:
    """Return the message in the bytes.

    Raises:
        Unreadable: they are none; `reason` says why.
    """
    if len(data) > limit:
        raise Unreadable("oversized")
    reader = Reader(data)
    version, code = reader.unpack(_HEADER)
    if version != VERSION:
        raise Unreadable("unknown_version")
    if code not in _KINDS:
        raise Unreadable("unknown_message")
    message = _read_message(_KINDS[code], reader)
    reader.end()
    return message


def _read_message(kind: type[Message], reader: Reader) -> Message:
    if kind is Gossip:
        return Gossip(_read_all_news(reader))
    if kind is Snapshot:
        wants_answer = reader.flag()
        return Snapshot(_read_all_news(reader), wants_answer)
    (number,) = reader.unpack(_NUMBER)
    if kind is Ack:
        return Ack(number, _read_all_news(reader))
    if kind is Nack:
        return Nack(number)
    target = reader.text(MAX_NAME)
    if kind is Ping:
        return Ping(number, target, _read_all_news(reader))
    address = _read_address(reader)
    return PingRequest(number, target, address, _read_all_news(reader))


def _read_all_news(reader: Reader) -> tuple[News, ...]:
    (count,) = reader.unpack(_COUNT)
    if count > _MAX_NEWS:
        raise Unreadable("malformed")
    return tuple(_read_news(reader) for _ in range(count))


def _read_news(reader: Reader) -> News:
    kind = reader.peek()
    if kind & _IS_RECORD:
        return _read_record(reader)
    if kind > State.LEFT:
        raise Unreadable("malformed")
    _, incarnation = reader.unpack(_CLAIM)
    if incarnation > _MAX_NUMBER:
        raise Unreadable("malformed")
    name, by = reader.text(MAX_NAME), reader.text(MAX_NAME, least=0)
    return Claim(name, _read_address(reader), incarnation, State(kind), by)


def _read_record(reader: Reader) -> Record:
    kind, version = reader.unpack(_RECORD)
    if kind & ~(_IS_RECORD | _IS_DELETED) or version > _MAX_NUMBER:
        raise Unreadable("malformed")
    origin, key = reader.text(MAX_NAME), reader.text(MAX_KEY)
    value = None if kind & _IS_DELETED else reader.value(MAX_VALUE)
    return Record(origin, key, version, value)


def _read_address(reader: Reader) -> Address:
    family = reader.byte()
    if family not in (4, 6):
        raise Unreadable("malformed")
    packed = reader.take(4 if family == 4 else 16)
    port = int.from_bytes(reader.take(2), "big")
    return IPv4Address(packed) if family == 4 else IPv6Address(packed), port


def _news(news: News) -> bytes:
    if isinstance(news, Claim):
        head = _CLAIM.pack(news.state, news.incarnation)
        return head + _text(news.name) + _text(news.by) + _address(news.address)
    kind = _IS_RECORD | (_IS_DELETED if news.value is None else 0)
    head = _RECORD.pack(kind, news.version) + _text(news.origin) + _text(news.key)
    return head if news.value is None else head + struct.pack("!H", len(news.value)) + news.value


def _text(text: str) -> bytes:
    data = text.encode()
    return bytes([len(data)]) + data


def _address(address: Address) -> bytes:
    host, port = address
    return bytes([host.version]) + host.packed + port.to_bytes(2, "big")
