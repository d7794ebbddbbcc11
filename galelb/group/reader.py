# SPDX-License-Identifier: Apache-2.0
"""Reads fields from bytes that anybody may have sent; whatever is wrong is an Unreadable."""

from __future__ import annotations

import struct
from typing import Any

from galelb.errors import RemoteProtocolError

__all__ = ["MAX_NAME", "Reader", "Unreadable"]

MAX_NAME = 63
"""Bytes of a balancer's name, in UTF-8."""


class Unreadable(RemoteProtocolError):  # noqa: N818 - says what the bytes are
    """The bytes are no message; `reason` is the name of a counter."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"unreadable message: {reason}")
        self.reason = reason


class Reader:
    """A cursor over bytes; each method returns one field and moves behind it."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def position(self) -> int:
        """Bytes that have been read."""
        return self._at

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        end = self._at + count
        if end > len(self._data):
            raise Unreadable("truncated")
        data = self._data[self._at : end]
        self._at = end
        return data

    def unpack(self, fields: struct.Struct) -> tuple[Any, ...]:
        """Return fields of fixed size."""
        return fields.unpack(self.take(fields.size))

    def peek(self) -> int:
        """Return the next byte and stay before it."""
        byte = self.byte()
        self._at -= 1
        return byte

    def byte(self) -> int:
        """Return one byte."""
        return self.take(1)[0]

    def flag(self) -> bool:
        """Return a byte that is 0 or 1."""
        byte = self.byte()
        if byte > 1:
            raise Unreadable("malformed")
        return bool(byte)

    def text(self, most: int, *, least: int = 1) -> str:
        """Return UTF-8 text of `least` to `most` bytes, behind one byte with its length."""
        length = self.byte()
        if not least <= length <= most:
            raise Unreadable("malformed")
        try:
            return self.take(length).decode()
        except UnicodeDecodeError:
            raise Unreadable("malformed") from None

    def value(self, most: int) -> bytes:
        """Return up to `most` bytes, behind two bytes with their number."""
        length = int.from_bytes(self.take(2), "big")
        if length > most:
            raise Unreadable("malformed")
        return self.take(length)

    def end(self) -> None:
        """Make sure that nothing is left."""
        if self._at != len(self._data):
            raise Unreadable("trailing_bytes")
