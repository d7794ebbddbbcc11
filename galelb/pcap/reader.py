# SPDX-License-Identifier: Apache-2.0
"""Reads capture files: tells their format by the first bytes, and reads classic pcap."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import attrs

from galelb.errors import PcapError
from galelb.pcap.pcapng import read_pcapng
from galelb.pcap.values import Record, check_captured

__all__ = ["read_pcap"]

_BLOCK = b"\x0a\x0d\x0d\x0a"
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_LINK_BITS = 0xFFFF  # above them: whether frames end with their checksum
_SECOND = 1_000_000_000


@attrs.frozen
class _Form:
    """A kind of classic pcap: nanoseconds of one tick, bytes of a record's head."""

    tick_ns: int
    head: int = 16


_FORMS = {
    0xA1B2C3D4: _Form(1000),
    0xA1B23C4D: _Form(1),
    0xA1B2CD34: _Form(1000, 24),  # the "modified" pcap of old Linux distributions
}


def read_pcap(path: Path) -> Iterator[Record]:
    """Yield the packets of a pcap or pcapng file, in its order.

    Raises PcapError that names the file: when it is none, and where it is damaged or cut off,
    after the packets before that place.
    """
    try:
        with path.open("rb") as file:
            yield from _records(file, str(path))
    except OSError as error:
        raise PcapError(f"{path}: {error.strerror}") from None


def _records(file: BinaryIO, name: str) -> Iterator[Record]:
    magic = file.read(4)
    if magic == _BLOCK:
        file.seek(0)
        return read_pcapng(file, name)
    for order in "<>":
        form = _FORMS.get(struct.unpack(f"{order}I", magic)[0]) if len(magic) == 4 else None
        if form is not None:
            return _classic(file, name, order, form)
    raise PcapError(f"{name}: {_not_pcap(magic)}")


def _not_pcap(magic: bytes) -> str:
    if not magic:
        return "is empty, not even the head of a capture file"
    if magic.startswith(_GZIP) or magic == _ZSTD:
        return "is compressed: unpack it first (gunzip, unzstd)"
    return "is no pcap or pcapng file"


def _classic(file: BinaryIO, name: str, order: str, form: _Form) -> Iterator[Record]:
    head = file.read(20)
    if len(head) < 20:
        raise PcapError(f"{name}: is cut off in its head")
    major, minor, _, _, _, link = struct.unpack(f"{order}HHiIII", head)
    if major != 2:
        raise PcapError(f"{name}: is pcap of version {major}.{minor}, only 2.x can be read")
    number = 0
    fields = struct.Struct(f"{order}IIII")
    while start := file.read(form.head):
        number += 1
        if len(start) < form.head:
            raise _cut_off(name, number)
        seconds, fraction, captured, length = fields.unpack_from(start)
        check_captured(name, number, captured)
        data = file.read(captured)
        if len(data) < captured:
            raise _cut_off(name, number)
        yield Record(
            number=number,
            time_ns=seconds * _SECOND + fraction * form.tick_ns,
            link=link & _LINK_BITS,
            data=data,
            length=max(length, captured),
        )


def _cut_off(name: str, number: int) -> PcapError:
    return PcapError(f"{name}: is cut off in packet {number}")
