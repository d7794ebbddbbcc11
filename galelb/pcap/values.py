# SPDX-License-Identifier: Apache-2.0
"""What a capture file is made of, whatever its format."""

from __future__ import annotations

import enum

import attrs

from galelb.errors import PcapError

__all__ = ["MAX_CAPTURED", "LinkType", "Record", "check_captured"]

MAX_CAPTURED = 1 << 18
"""Most bytes of one packet: what tcpdump and wireshark take at most. More is damage."""


class LinkType(enum.IntEnum):
    """What packets of a file begin with (the link types of pcap that we know)."""

    NULL = 0  # BSD loopback: the address family in the byte order of that host
    ETHERNET = 1
    RAW_BSD = 12
    RAW_OPENBSD = 14
    RAW = 101  # an IP packet
    LOOP = 108  # OpenBSD loopback: the address family in network order
    LINUX_SLL = 113  # tcpdump -i any
    IPV4 = 228
    IPV6 = 229
    LINUX_SLL2 = 276


@attrs.frozen(kw_only=True)
class Record:
    """One packet of a file: `data` are the bytes captured, `length` is what it had on the wire."""

    number: int
    """1 and up, as wireshark counts."""
    time_ns: int
    """Nanoseconds since 1970."""
    link: int
    data: bytes
    length: int
    writer: str = ""
    """What wrote it, as far as pcapng tells."""
    interface: str = ""
    """Name of the interface that it was captured on, as far as pcapng tells."""
    outbound: bool = False
    """Whether it was leaving there, as far as pcapng tells."""

    @property
    def by_galelb(self) -> bool:
        """Whether `galelb capture` wrote it, on a balancer."""
        return self.writer.startswith("galelb ")


def check_captured(where: str, number: int, captured: int) -> None:
    """Raise PcapError for a size that only a damaged file can have."""
    if captured > MAX_CAPTURED:
        raise PcapError(
            f"{where}: packet {number} claims to hold {captured} bytes, more than any"
            f" packet has: the file is damaged from there on"
        )
