# SPDX-License-Identifier: Apache-2.0
"""Reads pcapng (draft-ietf-opsawg-pcapng): sections, interfaces, packets; skips all else."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

import attrs

from galelb.errors import PcapError
from galelb.pcap.values import MAX_CAPTURED, Record, check_captured

__all__ = ["read_pcapng"]

_SECTION, _INTERFACE, _OLD_PACKET, _SIMPLE, _ENHANCED = 0x0A0D0D0A, 1, 2, 3, 6
_MAGIC = 0x1A2B3C4D
_USER_APPLICATION, _IF_NAME, _IF_TSRESOL, _IF_TSOFFSET, _FLAGS = 4, 2, 9, 14, 2
_DIRECTION, _OUTBOUND = 3, 2  # of the flags of a packet
_HEADS = {_OLD_PACKET: 20, _SIMPLE: 4, _ENHANCED: 20}  # bytes before the packet
_MOST = MAX_CAPTURED + (1 << 20)  # a packet and options (comments) of one megabyte
_SECOND = 1_000_000_000


@attrs.frozen
class _Interface:
    link: int
    snaplen: int
    ticks: int = 1_000_000
    """Ticks of its clock in a second."""
    offset_s: int = 0
    name: str = ""

    def time_ns(self, high: int, low: int) -> int:
        return (high << 32 | low) * _SECOND // self.ticks + self.offset_s * _SECOND


class _Reader:
    """A file, byte order and interfaces of its current section, and how many packets it gave."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name
        self._order = "<"
        self._interfaces: list[_Interface] = []
        self._number = 0
        self._writer = ""

    def records(self) -> Iterator[Record]:
        while head := self._file.read(8):
            if len(head) < 8:
                raise self._cut_off()
            if head[:4] == b"\x0a\x0d\x0d\x0a":
                self._section(head)
                continue
            kind, size = struct.unpack(f"{self._order}II", head)
            if size < 12 or size % 4:
                raise self._damaged(f"a block of {size} bytes")
            if kind == _INTERFACE:
                self._interfaces.append(self._interface(self._body(size)))
            elif kind in _HEADS:
                record = self._packet(kind, self._body(size))
                self._number += 1
                yield record
            else:
                self._skip(size)

    def _section(self, head: bytes) -> None:
        magic = self._file.read(4)
        for order in "<>":
            if len(magic) == 4 and struct.unpack(f"{order}I", magic)[0] == _MAGIC:
                self._order = order
                break
        else:
            raise self._cut_off() if len(magic) < 4 else self._damaged("no byte order")
        (size,) = struct.unpack(f"{self._order}I", head[4:])
        if size < 28 or size % 4:
            raise self._damaged(f"a section head of {size} bytes")
        body = self._read(size - 12)
        major, minor = struct.unpack_from(f"{self._order}HH", body)
        if major != 1:
            raise PcapError(f"{self._name}: is pcapng of version {major}.{minor}, not 1.x")
        self._interfaces.clear()
        options = dict(self._options(body[12:-4]))
        self._writer = _text(options.get(_USER_APPLICATION, b""))

    def _body(self, size: int) -> bytes:
        """Return what lies between a block's head and its length at the end."""
        if size > _MOST:
            raise self._damaged(f"a block of {size} bytes")
        data = self._read(size - 8)
        if struct.unpack_from(f"{self._order}I", data, size - 12)[0] != size:
            raise self._damaged("a block whose two lengths differ")
        return data[:-4]

    def _skip(self, size: int) -> None:
        """Pass over a block that is of no use, however large; its end must be there."""
        self._file.seek(size - 12, 1)
        self._read(4)

    def _read(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) < size:
            raise self._cut_off()
        return data

    def _interface(self, body: bytes) -> _Interface:
        if len(body) < 8:
            raise self._damaged("a short interface block")
        link, _, snaplen = struct.unpack_from(f"{self._order}HHI", body)
        ticks, offset_s, name = 1_000_000, 0, ""
        for code, value in self._options(body[8:]):
            if code == _IF_TSRESOL and value:
                power = value[0] & 0x7F
                ticks = 1 << power if value[0] & 0x80 else 10**power
            elif code == _IF_TSOFFSET and len(value) == 8:
                (offset_s,) = struct.unpack(f"{self._order}q", value)
            elif code == _IF_NAME:
                name = _text(value)
        return _Interface(link, snaplen, ticks, offset_s, name)

    def _options(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        at = 0
        while at + 4 <= len(data):
            code, size = struct.unpack_from(f"{self._order}HH", data, at)
            if code == 0:
                return
            yield code, data[at + 4 : at + 4 + size]
            at += 4 + -(-size // 4) * 4

    def _packet(self, kind: int, body: bytes) -> Record:
        head = _HEADS[kind]
        if len(body) < head:
            raise self._damaged("a short block")
        high = low = number = 0
        if kind == _ENHANCED:
            number, high, low, captured, length = struct.unpack_from(f"{self._order}5I", body)
        elif kind == _OLD_PACKET:
            number, _, high, low, captured, length = struct.unpack_from(f"{self._order}2H4I", body)
        else:
            (length,) = struct.unpack_from(f"{self._order}I", body)
            captured = length
        if number >= len(self._interfaces):
            raise self._damaged(f"the unknown interface {number}")
        interface = self._interfaces[number]
        if kind == _SIMPLE:
            captured = min(length, interface.snaplen or length, len(body) - head)
        check_captured(self._name, self._number + 1, captured)
        if captured > len(body) - head:
            raise self._damaged("more bytes than its block")
        return Record(
            number=self._number + 1,
            time_ns=interface.time_ns(high, low),
            link=interface.link,
            data=body[head : head + captured],
            length=max(length, captured),
            writer=self._writer,
            interface=interface.name,
            outbound=kind == _ENHANCED and self._outbound(body[head + -(-captured // 4) * 4 :]),
        )

    def _outbound(self, options: bytes) -> bool:
        flags = dict(self._options(options)).get(_FLAGS, b"")
        if len(flags) != 4:
            return False
        (bits,) = struct.unpack(f"{self._order}I", flags)
        return int(bits) & _DIRECTION == _OUTBOUND

    def _damaged(self, what: str) -> PcapError:
        return PcapError(f"{self._name}: is damaged {self._place()}: {what}")

    def _cut_off(self) -> PcapError:
        return PcapError(f"{self._name}: is cut off {self._place()}")

    def _place(self) -> str:
        return f"after packet {self._number}" if self._number else "before its first packet"


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")


def read_pcapng(file: BinaryIO, name: str) -> Iterator[Record]:
    """Yield the packets of all sections. Raises PcapError; OSError of the disk passes."""
    return _Reader(file, name).records()
