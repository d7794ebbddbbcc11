# SPDX-License-Identifier: Apache-2.0
"""What balancers tell each other in records: values, and their form as bytes.

A record's key says what it is: `about`, `node/ADDRESS`, `decision/ADDRESS`, `source/ADDRESS`,
`copy/PEER`, `setting/N`. Values are JSON arrays, short since they travel in datagrams. Whoever
has the group's key could write anything, so each value is checked before it is believed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Any

import attrs

from galelb.errors import RemoteProtocolError
from galelb.flowshare import SourceAddress
from galelb.health.weights import MAX_WEIGHT
from galelb.model import IPAddress

__all__ = [
    "ABOUT",
    "COPY",
    "DECISION",
    "NODE",
    "SETTING",
    "SOURCE",
    "About",
    "Decision",
    "NodeWord",
    "SourceWord",
    "pack_settings",
    "unpack_settings",
]

ABOUT = "about"
NODE = "node/"
DECISION = "decision/"
SOURCE = "source/"
COPY = "copy/"
SETTING = "setting/"

_MAX_TEXT = 128
_MAX_NAME = 100
"""Characters of a node's name that are told; they fit into a record however they are written."""
_MAX_COUNTER = (1 << 53) - 1
"""What every reader of JSON takes for a whole number."""
_SETTINGS_ROOM = 480


@attrs.frozen(kw_only=True)
class About:
    """What a balancer says of itself."""

    version: str
    config: str
    """Digest of what the group must share."""
    tables: str
    """Digest of all its lookup tables."""
    ready: bool
    """Whether it may have addresses: it forwards, and its copy of the peers' flows is complete."""
    sharing_port: int

    def pack(self) -> bytes:
        """Return the value of its record."""
        return _dump([self.version, self.config, self.tables, int(self.ready), self.sharing_port])

    @classmethod
    def unpack(cls, value: bytes) -> About:
        """Read a value. Raises RemoteProtocolError."""
        version, config, tables, ready, port = _load(value, 5)
        return cls(
            version=_text(version),
            config=_text(config),
            tables=_text(tables),
            ready=bool(_number(ready, 1)),
            sharing_port=_number(port, 65535),
        )


@attrs.frozen(kw_only=True)
class NodeWord:
    """What a balancer itself thinks of a node that it hears."""

    routable: bool
    name: str
    weight: int
    reason: str = ""

    def pack(self) -> bytes:
        """Return the value of its record."""
        return _dump([int(self.routable), self.name[:_MAX_NAME], self.weight, self.reason])

    @classmethod
    def unpack(cls, value: bytes) -> NodeWord:
        """Read a value. Raises RemoteProtocolError."""
        routable, name, weight, reason = _load(value, 4)
        return cls(
            routable=bool(_number(routable, 1)),
            name=_text(name),
            weight=_number(weight, MAX_WEIGHT),
            reason=_text(reason),
        )


@attrs.frozen(kw_only=True)
class Decision:
    """What an operator wants of a node; of two the one with the higher `rank` holds."""

    draining: bool
    weight: int | None
    counter: int
    """One more than any that was known when it was made (Lamport's clock)."""
    by: str
    """The balancer that was asked."""

    @property
    def rank(self) -> tuple[int, str, bool, int]:
        """What decides between two; who lost its memory may count from the start again."""
        return self.counter, self.by, self.draining, -1 if self.weight is None else self.weight

    def pack(self) -> bytes:
        """Return the value of its record."""
        return _dump([int(self.draining), self.weight, self.counter, self.by])

    @classmethod
    def unpack(cls, value: bytes) -> Decision:
        """Read a value. Raises RemoteProtocolError."""
        draining, weight, counter, by = _load(value, 4)
        return cls(
            draining=bool(_number(draining, 1)),
            weight=None if weight is None else _number(weight, MAX_WEIGHT),
            counter=_number(counter, _MAX_COUNTER),
            by=_text(by),
        )


@attrs.frozen(kw_only=True)
class SourceWord:
    """An address that a balancer translates flows to; one that is not `movable` has no heir."""

    source: SourceAddress
    movable: bool

    def pack(self) -> bytes:
        """Return the value of its record."""
        return _dump([self.source.first_port, self.source.last_port, int(self.movable)])

    @classmethod
    def unpack(cls, address: str, value: bytes) -> SourceWord:
        """Read a value. Raises RemoteProtocolError."""
        first, last, movable = _load(value, 3)
        source = SourceAddress(
            address=read_address(address),
            first_port=_number(first, 65535),
            last_port=_number(last, 65535),
        )
        return cls(source=source, movable=bool(_number(movable, 1)))


def read_address(text: str) -> IPAddress:
    """Return the address in a key. Raises RemoteProtocolError."""
    try:
        return ip_address(text)
    except ValueError:
        raise RemoteProtocolError("a key names no address") from None


def pack_settings(digests: Mapping[str, str]) -> list[bytes]:
    """Return digests of settings by name as the values of as few records as can be."""
    parts: list[dict[str, str]] = [{}]
    room = _SETTINGS_ROOM
    for name, digest in sorted(digests.items()):
        needed = len(json.dumps(name)) + len(digest) + 4
        if needed > room:
            parts.append({})
            room = _SETTINGS_ROOM
        parts[-1][name] = digest
        room -= needed
    return [_dump([part]) for part in parts]


def unpack_settings(values: Iterable[bytes]) -> dict[str, str]:
    """Read what `pack_settings` made. Raises RemoteProtocolError."""
    settings: dict[str, str] = {}
    for value in values:
        (part,) = _load(value, 1)
        if not isinstance(part, dict):
            raise RemoteProtocolError("settings must be a table")
        settings |= {_text(name): _text(digest) for name, digest in part.items()}
    return settings


def _dump(value: list[Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _load(value: bytes, length: int) -> list[Any]:
    try:
        data = json.loads(value)
    except (ValueError, RecursionError):
        raise RemoteProtocolError("a record is no JSON") from None
    if not isinstance(data, list) or len(data) < length:
        raise RemoteProtocolError(f"a record must be an array of {length} values")
    return data[:length]  # later versions may say more


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT or not value.isprintable():
        raise RemoteProtocolError("a record holds something else than a short text")
    return value


def _number(value: object, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise RemoteProtocolError(f"a record holds something else than a number up to {most}")
    return value
