# SPDX-License-Identifier: Apache-2.0
"""Lends addresses to interfaces for some seconds at a time; all blocking.

A balancer renews each of its addresses every second, so requests are packed here by hand: some ten
microseconds each, and not some hundred as with a general library.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Collection, Iterator
from ipaddress import IPv4Address, IPv6Address

import attrs

from galelb.errors import NetlinkError
from galelb.model import IPAddress
from galelb.netlink.values import Lent, LentState

__all__ = ["lend_addresses", "take_addresses_back"]

_NEWADDR, _DELADDR, _GETADDR = 20, 21, 22
_REQUEST, _ACK, _DUMP, _REPLACE, _CREATE = 0x1, 0x4, 0x300, 0x100, 0x400
_ERROR, _DONE = 2, 3
_IFA_ADDRESS, _IFA_LOCAL, _IFA_CACHEINFO, _IFA_FLAGS = 1, 2, 6, 8
_NODAD, _PERMANENT, _NOPREFIXROUTE = 0x2, 0x80, 0x200
_HEADER = struct.Struct("=IHHII")
_MESSAGE = struct.Struct("=BBBBi")
_ATTRIBUTE = struct.Struct("=HH")
_CACHEINFO = struct.Struct("=IIII")
_U32 = struct.Struct("=I")
_READ = 1 << 16
_PATIENCE_S = 5.0


@attrs.frozen
class _Present:
    prefix: int
    valid_s: int | None
    """None = for ever."""


_Table = dict[tuple[int, IPAddress], list[_Present]]


def lend_addresses(
    wanted: Collection[tuple[str, IPAddress]], valid_s: int
) -> dict[tuple[str, IPAddress], Lent]:
    """Put each (interface, address) there for `valid_s` seconds (as /32 or /128), or renew it.

    What somebody else put there is left as it is: with another prefix, or for longer. The kernel
    chooses none of these addresses as the source of its own packets where it has another one.

    Returns: what became of each; a failure of one is told there.
    Raises NetlinkError when the kernel answers nothing at all.
    """
    with _Talk() as talk:
        present = talk.table()
        return {(name, a): _lend(talk, present, name, a, valid_s) for name, a in wanted}


def take_addresses_back(lent: Collection[tuple[str, IPAddress]], valid_s: int) -> None:
    """Remove addresses that `lend_addresses` put there; absent or somebody else's is fine.

    Raises NetlinkError.
    """
    with _Talk() as talk:
        present = talk.table()
        for name, address in lent:
            index = _index(name)
            here = present.get((index, address), [])
            if any(_is_lent(one, address, valid_s) for one in here):
                code = talk.ask(_DELADDR, _ACK, _request(index, address, 0))
                if code not in (0, errno.EADDRNOTAVAIL, errno.ENODEV):
                    raise NetlinkError(f"remove {address} from {name}: {os.strerror(code)}")


def _lend(talk: _Talk, present: _Table, name: str, address: IPAddress, valid_s: int) -> Lent:
    index = _index(name)
    if not index:
        return Lent(LentState.MISSING, f"there is no interface {name}")
    here = present.get((index, address), [])
    if any(not _is_lent(one, address, valid_s) for one in here):
        return Lent(LentState.FOREIGN)
    request = _request(index, address, valid_s)
    code = talk.ask(_NEWADDR, _ACK | _CREATE | _REPLACE, request)
    if code:
        return Lent(LentState.MISSING, os.strerror(code))
    return Lent(LentState.RENEWED if here else LentState.NEW)


def _is_lent(one: _Present, address: IPAddress, valid_s: int) -> bool:
    """Whether it is as we put it: a restarted balancer finds those of its last run."""
    return (
        one.prefix == address.max_prefixlen and one.valid_s is not None and one.valid_s <= valid_s
    )


def _index(name: str) -> int:
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0


def _request(index: int, address: IPAddress, valid_s: int) -> bytes:
    # No route for the prefix of an IPv6 address: it would be the address itself, and announced
    # anew at each renewal.
    v6 = address.version == 6
    flags = _NODAD | _NOPREFIXROUTE if v6 else 0
    family = socket.AF_INET6 if v6 else socket.AF_INET
    return (
        _MESSAGE.pack(family, address.max_prefixlen, 0, 0, index)
        + _attribute(_IFA_LOCAL, address.packed)
        + _attribute(_IFA_ADDRESS, address.packed)
        + (_attribute(_IFA_CACHEINFO, _CACHEINFO.pack(0, valid_s, 0, 0)) if valid_s else b"")
        + _attribute(_IFA_FLAGS, _U32.pack(flags))
    )


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value  # all are whole words


class _Talk:
    """A socket to the kernel for some requests, one after another."""

    def __enter__(self) -> _Talk:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        self._socket.settimeout(_PATIENCE_S)
        self._sequence = 0
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, kind: int, flags: int, body: bytes) -> int:
        """Return the kernel's errno, 0 = done."""
        for what, answer in self._exchange(kind, flags, body):
            if what == _ERROR:
                code: int = struct.unpack_from("=i", answer)[0]
                return -code
        return 0

    def table(self) -> _Table:
        """Return all addresses of this network namespace by (ifindex, address)."""
        found: _Table = {}
        for what, answer in self._exchange(_GETADDR, _DUMP, _MESSAGE.pack(0, 0, 0, 0, 0)):
            if what == _NEWADDR:
                place, present = _read(answer)
                found.setdefault(place, []).append(present)
        return found

    def _exchange(self, kind: int, flags: int, body: bytes) -> Iterator[tuple[int, bytes]]:
        self._sequence += 1
        length = _HEADER.size + len(body)
        try:
            self._socket.send(
                _HEADER.pack(length, kind, flags | _REQUEST, self._sequence, 0) + body
            )
            while True:
                for what, sequence, answer in _messages(self._socket.recv(_READ)):
                    if sequence != self._sequence:
                        continue
                    yield what, answer
                    if what in (_ERROR, _DONE):
                        return
        except OSError as error:
            raise NetlinkError(f"addresses: {error.strerror or error}") from error


def _messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, _, sequence, _ = _HEADER.unpack_from(data, at)
        if length < _HEADER.size:
            return
        yield kind, sequence, data[at + _HEADER.size : at + length]
        at += (length + 3) & ~3


def _read(body: bytes) -> tuple[tuple[int, IPAddress], _Present]:
    _, prefix, flags, _, index = _MESSAGE.unpack_from(body)
    found: dict[int, bytes] = {}
    at = _MESSAGE.size
    while at + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, at)
        if length < _ATTRIBUTE.size:
            break
        found[kind & 0x3FFF] = body[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
    raw = found.get(_IFA_LOCAL) or found[_IFA_ADDRESS]
    if _IFA_FLAGS in found:
        flags = _U32.unpack(found[_IFA_FLAGS])[0]
    valid = None if flags & _PERMANENT else _CACHEINFO.unpack(found[_IFA_CACHEINFO])[1]
    address = IPv4Address(raw) if len(raw) == 4 else IPv6Address(raw)
    return (index, address), _Present(prefix, valid)
