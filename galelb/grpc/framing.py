# SPDX-License-Identifier: Apache-2.0
"""The gRPC wire format without any input or output: messages, status, headers, time-outs."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from urllib.parse import quote, unquote

from galelb.errors import RemoteProtocolError

__all__ = [
    "MAX_MESSAGE_BYTES",
    "CallError",
    "Headers",
    "MessageReader",
    "StatusCode",
    "encode_message",
    "header_dict",
    "parse_timeout",
    "request_headers",
    "response_headers",
    "status_from",
    "trailers",
]

Headers = list[tuple[bytes, bytes]]

MAX_MESSAGE_BYTES = 64 * 1024
PREFIX_BYTES = 5  # one flag byte, four bytes of length
_MAX_STATUS_TEXT = 1024
_CONTENT_TYPE = b"application/grpc+proto"
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNIT_S = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}


class StatusCode(enum.IntEnum):
    """How a call ended; numbers of the wire format."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class CallError(RemoteProtocolError):
    """A call ended with another status than OK; `code` and `message` are what gRPC names them."""

    def __init__(self, code: StatusCode, message: str) -> None:
        super().__init__(f"{code.name}: {message}" if message else code.name)
        self.code = code
        self.message = message


def encode_message(payload: bytes) -> bytes:
    """Return a message with its prefix."""
    return b"\0" + len(payload).to_bytes(4, "big") + payload


class MessageReader:
    """Cuts the bytes of a stream into messages; holds at most one unfinished message."""

    def __init__(self, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._buffer = bytearray()

    @property
    def unfinished(self) -> bool:
        """Whether a message has begun and not ended."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """Return the messages that `data` completes.

        Raises:
            CallError: a message is too long or compressed; feed no more.
        """
        self._buffer += data
        messages = []
        while len(self._buffer) >= PREFIX_BYTES:
            end = PREFIX_BYTES + self._length()
            if len(self._buffer) < end:
                break
            messages.append(bytes(self._buffer[PREFIX_BYTES:end]))
            del self._buffer[:end]
        return messages

    def _length(self) -> int:
        if self._buffer[0] != 0:
            raise CallError(StatusCode.UNIMPLEMENTED, "compressed messages are not supported")
        length = int.from_bytes(self._buffer[1:PREFIX_BYTES], "big")
        if length > self._max_bytes:
            text = f"message of {length} bytes; the limit is {self._max_bytes}"
            raise CallError(StatusCode.RESOURCE_EXHAUSTED, text)
        return length


def request_headers(path: str, authority: str, scheme: str = "http") -> Headers:
    """Return the headers that begin a call; metadata may follow them."""
    return [
        (b":method", b"POST"),
        (b":scheme", scheme.encode()),
        (b":path", path.encode()),
        (b":authority", authority.encode()),
        (b"te", b"trailers"),
        (b"content-type", _CONTENT_TYPE),
        (b"user-agent", b"galelb"),
    ]


def response_headers() -> Headers:
    """Return the headers that begin an answer."""
    return [(b":status", b"200"), (b"content-type", _CONTENT_TYPE)]


def trailers(code: StatusCode, message: str = "") -> Headers:
    """Return the trailers that end a call."""
    text = quote(message[:_MAX_STATUS_TEXT], safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~")
    end = [(b"grpc-status", str(int(code)).encode())]
    return [*end, (b"grpc-message", text.encode())] if text else end


def header_dict(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return headers by name; of a repeated one, the first."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        found.setdefault(bytes(name), bytes(value))
    return found


def status_from(headers: dict[bytes, bytes]) -> CallError | None:
    """Return the error that trailers tell of, None for OK."""
    text = unquote(headers.get(b"grpc-message", b"").decode("latin-1"))[:_MAX_STATUS_TEXT]
    number = headers.get(b"grpc-status", b"")
    if number == b"0":
        return None
    try:
        return CallError(StatusCode(int(number)), text)
    except ValueError:
        return CallError(StatusCode.UNKNOWN, text or f"the call ended with status {number!r}")


def parse_timeout(value: bytes | None) -> float | None:
    """Return the seconds of a `grpc-timeout` header, None if there is none.

    Raises:
        CallError: it is not a time-out.
    """
    if value is None:
        return None
    match = _TIMEOUT.fullmatch(value)
    if match is None:
        raise CallError(StatusCode.INVALID_ARGUMENT, f"bad grpc-timeout {value!r}")
    return int(match[1]) * _UNIT_S[match[2]]
