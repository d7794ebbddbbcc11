# SPDX-License-Identifier: Apache-2.0
"""Reads the kernel's announcements: a small parser, and a subscription on a trio socket.

The parser is ours since it runs in trio's thread: a storm of route changes costs a few
microseconds per message here, and a tenth of a millisecond each in a general library.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

import trio

from galelb.model import IPAddress
from galelb.netlink.values import (
    AddressChanged,
    LinkChanged,
    NeighbourChanged,
    NeighbourState,
    NetlinkEvent,
    Overflow,
    RouteChanged,
)

__all__ = ["Events", "parse"]

_NEWLINK, _DELLINK = 16, 17
_NEWADDR, _DELADDR = 20, 21
_NEWROUTE, _DELROUTE = 24, 25
_NEWNEIGH, _DELNEIGH = 28, 29

_GROUPS = 0x1 | 0x4 | 0x10 | 0x40 | 0x100 | 0x400  # link, neigh, v4 addr, v4 route, v6 addr, route
_SO_RCVBUFFORCE = 33
_BUFFER = 4 << 20
_READ = 1 << 16
_MOST_READS = 4096

_IFF_UP, _IFF_LOWER_UP = 0x1, 0x10000
_AF_BRIDGE = 7
_RTM_F_CLONED = 0x200

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBi")
_ROUTE = struct.Struct("=BBBBBBBBI")
_NEIGHBOUR = struct.Struct("=B3xiHBB")
_U32 = struct.Struct("=I")


def parse(data: bytes) -> Iterator[NetlinkEvent]:
    """Yield the events in what one read of the socket returned; foreign messages are skipped."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, at)
        if length < _HEADER.size or at + length > len(data):
            return
        reader = _READERS.get(kind)
        if reader is not None:
            body = data[at + _HEADER.size : at + length]
            try:
                event = reader(body, kind in _REMOVALS)
            except (struct.error, ValueError, KeyError, UnicodeDecodeError):
                event = None  # not what we subscribed to, for example an FDB entry
            if event is not None:
                yield event
        at += (length + 3) & ~3


class Events:
    """An endless stream of events since it was made; `close` ends it.

    Each subscriber has its own socket. Whoever falls behind by some ten thousand events gets
    an Overflow and must read everything again.
    """

    def __init__(self) -> None:
        raw = socket.socket(
            socket.AF_NETLINK,
            socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK,
            socket.NETLINK_ROUTE,
        )
        try:
            raw.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
            raw.bind((0, _GROUPS))
            self._socket = trio.socket.from_stdlib_socket(raw)
            self._raw = raw
        except BaseException:
            raw.close()
            raise
        self._pending: Iterator[NetlinkEvent] = iter(())

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> NetlinkEvent:
        """Return the next event; a checkpoint. Raises StopAsyncIteration after `close`."""
        await trio.lowlevel.checkpoint()
        while (event := next(self._pending, None)) is None:
            try:
                self._pending = parse(await self._socket.recv(_READ))
            except (trio.ClosedResourceError, OSError) as error:
                if getattr(error, "errno", None) == errno.ENOBUFS:
                    self._discard()
                    return Overflow()
                if self.closed:
                    raise StopAsyncIteration from None
                raise
        return event

    def _discard(self) -> None:
        """Empty the socket: until then the kernel drops events without a further word."""
        for _ in range(_MOST_READS):
            try:
                self._raw.recv(_READ)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._socket.fileno() < 0

    def close(self) -> None:
        """End the stream; a reader that waits stops."""
        self._socket.close()


def _attributes(body: bytes, start: int) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = (start + 3) & ~3
    while at + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, at)
        if length < _ATTRIBUTE.size or at + length > len(body):
            break
        found[kind & 0x3FFF] = body[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
    return found


def _ip(raw: bytes) -> IPAddress:
    return IPv4Address(raw) if len(raw) == 4 else IPv6Address(raw)


def _u32(raw: bytes) -> int:
    number: int = _U32.unpack(raw)[0]
    return number


def _link(body: bytes, removed: bool) -> NetlinkEvent | None:
    family, _, ifindex, flags, _ = _LINK.unpack_from(body)
    if family == _AF_BRIDGE:
        return None  # a bridge port's own state; the link itself is announced too
    found = _attributes(body, _LINK.size)
    return LinkChanged(
        ifindex=ifindex,
        name=found[3].rstrip(b"\0").decode(),
        mac=found.get(1, b"").hex(":"),
        mtu=_u32(found[4]),
        up=bool(flags & _IFF_UP and flags & _IFF_LOWER_UP),
        removed=removed,
    )


def _address(body: bytes, removed: bool) -> NetlinkEvent | None:
    _, prefix, _, _, ifindex = _ADDRESS.unpack_from(body)
    found = _attributes(body, _ADDRESS.size)
    local = found.get(2) or found[1]  # IFA_LOCAL: on point-to-point links IFA_ADDRESS is the peer
    return AddressChanged(ifindex=ifindex, address=_ip(local), prefix=prefix, removed=removed)


def _route(body: bytes, removed: bool) -> NetlinkEvent | None:
    family, prefix, _, _, table, _, _, _, flags = _ROUTE.unpack_from(body)
    if family not in (socket.AF_INET, socket.AF_INET6) or flags & _RTM_F_CLONED:
        return None
    found = _attributes(body, _ROUTE.size)
    return RouteChanged(
        family=family,
        table=_u32(found[15]) if 15 in found else table,
        destination=_ip(found[1]) if 1 in found else None,
        prefix=prefix,
        ifindex=_u32(found[4]) if 4 in found else None,
        removed=removed,
    )


def _neighbour(body: bytes, removed: bool) -> NetlinkEvent | None:
    family, ifindex, bits, _, _ = _NEIGHBOUR.unpack_from(body)
    if family not in (socket.AF_INET, socket.AF_INET6):
        return None
    found = _attributes(body, _NEIGHBOUR.size)
    state = NeighbourState.of_kernel(bits)
    mac = found.get(2, b"")
    return NeighbourChanged(
        ifindex=ifindex,
        address=_ip(found[1]),
        mac=mac.hex(":") if len(mac) == 6 and state.has_mac else None,
        state=state,
        removed=removed,
    )


_REMOVALS = frozenset({_DELLINK, _DELADDR, _DELROUTE, _DELNEIGH})
_READERS = {
    _NEWLINK: _link,
    _DELLINK: _link,
    _NEWADDR: _address,
    _DELADDR: _address,
    _NEWROUTE: _route,
    _DELROUTE: _route,
    _NEWNEIGH: _neighbour,
    _DELNEIGH: _neighbour,
}
