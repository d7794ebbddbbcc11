# SPDX-License-Identifier: Apache-2.0
"""Writes classic pcap with Ethernet frames, which every tool reads."""

from __future__ import annotations

import struct
from pathlib import Path
from types import TracebackType

from galelb.errors import PcapError
from galelb.pcap.values import MAX_CAPTURED, LinkType

__all__ = ["PcapWriter"]

_SECOND = 1_000_000_000
_MOST_SECONDS = 0xFFFFFFFF


class PcapWriter:
    """A new file, an old one of that name is replaced; a context manager. Raises PcapError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = path.open("wb")
            self._file.write(
                struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, MAX_CAPTURED, LinkType.ETHERNET)
            )
        except OSError as error:
            raise self._problem(error) from None

    def __enter__(self) -> PcapWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._file.close()
        except OSError as problem:
            raise self._problem(problem) from None

    def write(self, time_ns: int, frame: bytes, length: int | None = None) -> None:
        """Add a frame; `length` is that on the wire, if not all of it is there."""
        seconds, rest = divmod(time_ns, _SECOND)
        head = struct.pack(
            "<IIII",
            min(max(seconds, 0), _MOST_SECONDS),
            rest // 1000,
            len(frame),
            len(frame) if length is None else length,
        )
        try:
            self._file.write(head + frame)
        except OSError as error:
            raise self._problem(error) from None

    def _problem(self, error: OSError) -> PcapError:
        return PcapError(f"{self._path}: cannot be written: {error.strerror}")
