# SPDX-License-Identifier: Apache-2.0
"""Writes and reads pcapng, as far as a capture needs it; little endian, Ethernet, nanoseconds.

The format is that of draft-ietf-opsawg-pcapng: blocks of a type, a length, a body and the length
again, all of them multiples of four bytes.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable, Iterator

import attrs

from galelb.errors import ProtocolError

__all__ = [
    "Direction",
    "Frame",
    "Interface",
    "Reader",
    "Statistics",
    "VerdictKind",
    "frame_block",
    "interface_block",
    "section_block",
    "statistics_block",
]

_SECTION, _INTERFACE, _STATISTICS, _FRAME = 0x0A0D0D0A, 1, 5, 6
_MAGIC = 0x1A2B3C4D
_ETHERNET = 1
_NANOSECONDS = 9
_END, _COMMENT = 0, 1
_APPLICATION = 4
_NAME, _DESCRIPTION, _RESOLUTION = 2, 3, 9
_FLAGS, _PACKET_ID, _VERDICT = 2, 5, 7
_RECEIVED, _DROPPED = 4, 5
_MAX_BLOCK = 1 << 20
_HEADER = 8
_FRAME_HEAD = struct.Struct("<7I")
"""Type, length, interface, time in two halves, bytes here and in all."""
_FRAME_TAIL = struct.Struct("<HHI HHQ HHBQ3x HH I")
"""Options with their codes and lengths (flags, packet id, verdict), their end, the length again."""


class Direction(enum.IntEnum):
    """The lowest bits of a frame's flags."""

    INBOUND = 1
    OUTBOUND = 2


class VerdictKind(enum.IntEnum):
    """Whose numbers a verdict is one of."""

    TC = 1
    XDP = 2


@attrs.frozen
class Interface:
    """One description of an interface; frames name it by its position."""

    name: str
    description: str
    snaplen: int


@attrs.frozen(kw_only=True)
class Frame:
    """A frame: its first bytes, and how long it was."""

    interface: int
    time_ns: int
    """Since the epoch."""
    data: bytes
    length: int
    direction: Direction
    packet_id: int
    """The same for all frames that one packet was."""
    kind: VerdictKind = VerdictKind.XDP
    verdict: int = 0
    comment: str = ""


@attrs.frozen(kw_only=True)
class Statistics:
    """Packets since the start: those that were captured, and those that should have been."""

    time_ns: int
    captured: int
    lost: int


def section_block(application: str) -> bytes:
    """Return what a file begins with."""
    body = struct.pack("<IHHq", _MAGIC, 1, 0, -1)
    return _block(_SECTION, body + _options([(_APPLICATION, application.encode())]))


def interface_block(interface: Interface) -> bytes:
    """Return the description of an interface."""
    body = struct.pack("<HHI", _ETHERNET, 0, interface.snaplen)
    options = [
        (_NAME, interface.name.encode()),
        (_DESCRIPTION, interface.description.encode()),
        (_RESOLUTION, bytes([_NANOSECONDS])),
    ]
    return _block(_INTERFACE, body + _options(options))


def frame_block(frame: Frame) -> bytes:
    """Return a frame with what is known of it; as quick as can be, for there are many."""
    data, comment = _padded(frame.data), frame.comment.encode()
    if comment:
        comment = struct.pack("<HH", _COMMENT, len(comment)) + _padded(comment)
    length = _FRAME_HEAD.size + len(data) + len(comment) + _FRAME_TAIL.size
    time_ns = frame.time_ns
    head = _FRAME_HEAD.pack(
        _FRAME,
        length,
        frame.interface,
        time_ns >> 32,
        time_ns & 0xFFFFFFFF,
        len(frame.data),
        frame.length,
    )
    tail = _FRAME_TAIL.pack(
        *(_FLAGS, 4, frame.direction),
        *(_PACKET_ID, 8, frame.packet_id),
        *(_VERDICT, 9, frame.kind, frame.verdict),
        *(_END, 0, length),
    )
    return b"".join((head, data, comment, tail))


def statistics_block(statistics: Statistics) -> bytes:
    """Return counts; they stand for all interfaces and are given with the first one."""
    options = [
        (_RECEIVED, struct.pack("<Q", statistics.captured + statistics.lost)),
        (_DROPPED, struct.pack("<Q", statistics.lost)),
    ]
    body = struct.pack("<3I", 0, *_halves(statistics.time_ns))
    return _block(_STATISTICS, body + _options(options))


def _block(kind: int, body: bytes) -> bytes:
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length


def _options(options: Iterable[tuple[int, bytes]]) -> bytes:
    given = [*((code, value) for code, value in options if value), (_END, b"")]
    return b"".join(struct.pack("<HH", code, len(v)) + _padded(v) for code, v in given)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _halves(time_ns: int) -> tuple[int, int]:
    return time_ns >> 32, time_ns & 0xFFFFFFFF


class Reader:
    """Takes what a capture sends, in any pieces, and gives what whole blocks say.

    Reads what this module writes; blocks and options of other kinds are passed over.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._begun = False
        self.interfaces: list[Interface] = []

    def feed(self, data: bytes) -> Iterator[Frame | Statistics]:
        """Yield what has come in full. Raises ProtocolError for what is no such capture."""
        self._rest += data
        at = 0
        try:
            while len(self._rest) >= at + _HEADER:
                kind, length = struct.unpack_from("<II", self._rest, at)
                if length % 4 or not 12 <= length <= _MAX_BLOCK:
                    raise ProtocolError(f"this is no pcapng: a block of {length} bytes")
                if len(self._rest) < at + length:
                    break
                body = self._rest[at + _HEADER : at + length - 4]
                at += length
                found = self._block(kind, body)
                if found is not None:
                    yield found
        finally:
            self._rest = self._rest[at:]

    def _block(self, kind: int, body: bytes) -> Frame | Statistics | None:
        if not self._begun and (kind != _SECTION or body[:4] != struct.pack("<I", _MAGIC)):
            raise ProtocolError("this is no pcapng of a balancer")
        self._begun = True
        try:
            if kind == _INTERFACE:
                self.interfaces.append(_interface(body))
            elif kind == _FRAME:
                return _frame(body)
            elif kind == _STATISTICS:
                return _statistics(body)
        except (struct.error, ValueError) as error:
            raise ProtocolError(f"a pcapng block of type {kind} is damaged: {error}") from None
        return None


def _interface(body: bytes) -> Interface:
    _, _, snaplen = struct.unpack_from("<HHI", body)
    options = _read_options(body, 8)
    name, description = options.get(_NAME, b""), options.get(_DESCRIPTION, b"")
    return Interface(name.decode(), description.decode(), snaplen)


def _frame(body: bytes) -> Frame:
    interface, high, low, kept, length = struct.unpack_from("<5I", body)
    if 20 + kept > len(body):
        raise ValueError(f"{kept} bytes of a frame do not fit in")
    options = _read_options(body, 20 + kept + -kept % 4)
    kind, verdict = struct.unpack("<BQ", options.get(_VERDICT, bytes([VerdictKind.XDP] + [0] * 8)))
    (flags,) = struct.unpack("<I", options.get(_FLAGS, struct.pack("<I", Direction.INBOUND)))
    return Frame(
        interface=interface,
        time_ns=high << 32 | low,
        data=body[20 : 20 + kept],
        length=length,
        direction=Direction(flags & 3),
        packet_id=int.from_bytes(options.get(_PACKET_ID, b""), "little"),
        kind=VerdictKind(kind),
        verdict=verdict,
        comment=options.get(_COMMENT, b"").decode(),
    )


def _statistics(body: bytes) -> Statistics:
    _, high, low = struct.unpack_from("<3I", body)
    options = _read_options(body, 12)
    received = int.from_bytes(options.get(_RECEIVED, b""), "little")
    lost = int.from_bytes(options.get(_DROPPED, b""), "little")
    return Statistics(time_ns=high << 32 | low, captured=received - lost, lost=lost)


def _read_options(body: bytes, at: int) -> dict[int, bytes]:
    options: dict[int, bytes] = {}
    while at + 4 <= len(body):
        code, length = struct.unpack_from("<HH", body, at)
        if code == _END:
            break
        options[code] = body[at + 4 : at + 4 + length]
        at += 4 + length + -length % 4
    return options
