# SPDX-License-Identifier: Apache-2.0
"""Asks a machine's networks for a .local name, once (RFC 6762, 5.1), with nothing installed."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

import trio

from galelb.model import IPAddress

__all__ = ["answers", "ask", "is_mdns_name", "question"]

_PORT = 5353
_GROUPS = {socket.AF_INET: "224.0.0.251", socket.AF_INET6: "ff02::fb"}
_SEND_AT_S = (0.0, 0.3)
_TIMEOUT_S = 1.0
_TTL = 255

_HEADER = struct.Struct("!6H")
_RECORD = struct.Struct("!HHIH")
_A, _AAAA = 1, 28
_IN = 1
_UNICAST = 0x8000
"""In a question: answer us alone. In an answer: others' caches may forget what they have."""
_RESPONSE = 0x8000
_POINTER = 0xC0
_MOST_RECORDS = 64
_MOST_LABELS = 128


def is_mdns_name(host: str) -> bool:
    """Return whether a name is one that a network's machines answer to themselves."""
    return host.lower().rstrip(".").endswith(".local")


async def ask(host: str) -> frozenset[IPAddress]:
    """Ask every network of this machine; returns the first answer. Raises OSError.

    Link-local IPv6 addresses are left out: they mean nothing without an interface.
    """
    found: frozenset[IPAddress] = frozenset()
    with trio.move_on_after(_TIMEOUT_S):
        async with trio.open_nursery() as nursery:

            async def listen(sock: trio.socket.SocketType) -> None:
                nonlocal found
                while not found:
                    data, sender = await sock.recvfrom(9000)
                    if sender[1] == _PORT:
                        found = frozenset(answers(data, host))
                nursery.cancel_scope.cancel()

            with contextlib.ExitStack() as stack:
                socks = [stack.enter_context(sock) for sock in _sockets()]
                for sock in socks:
                    nursery.start_soon(listen, sock)
                for moment in _SEND_AT_S:
                    await trio.sleep(moment)
                    for sock in socks:
                        await _send(sock, question(host))
                await trio.sleep_forever()
    if not found:
        raise OSError(0, f"nobody on this machine's networks answers to {host}")
    return found


def _sockets() -> Iterator[trio.socket.SocketType]:
    for family in _GROUPS:
        with contextlib.suppress(OSError):  # a machine without IPv6
            yield trio.socket.socket(family, socket.SOCK_DGRAM)


async def _send(sock: trio.socket.SocketType, payload: bytes) -> None:
    """Send to the group on every interface; one that cannot is none where somebody is."""
    for index, _ in socket.if_nameindex():
        with contextlib.suppress(OSError):
            if sock.family == socket.AF_INET:
                way = struct.pack("=4s4si", b"", b"", index)  # struct ip_mreqn
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, way)
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, _TTL)
            else:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, _TTL)
            await sock.sendto(payload, (_GROUPS[socket.AddressFamily(sock.family)], _PORT))


def question(host: str) -> bytes:
    """Return a message that asks for both kinds of addresses of a name."""
    name = b""
    for label in host.rstrip(".").encode("ascii").split(b"."):
        name += bytes([len(label)]) + label
    name += b"\0"
    asked = b"".join(name + struct.pack("!HH", kind, _IN | _UNICAST) for kind in (_A, _AAAA))
    return _HEADER.pack(0, 0, 2, 0, 0, 0) + asked


def answers(message: bytes, host: str) -> Iterator[IPAddress]:
    """Yield the addresses of a name in a message; nothing from one that makes no sense."""
    wanted = host.rstrip(".").lower().encode("ascii")
    with contextlib.suppress(struct.error, IndexError, ValueError):
        _, flags, questions, *counts = _HEADER.unpack_from(message)
        if not flags & _RESPONSE:
            return
        at = _HEADER.size
        for _ in range(min(questions, _MOST_RECORDS)):
            at = _name(message, at)[1] + 4
        for _ in range(min(sum(counts), _MOST_RECORDS)):
            name, at = _name(message, at)
            kind, group, _, size = _RECORD.unpack_from(message, at)
            at += _RECORD.size
            if name.lower() == wanted and group & ~_UNICAST == _IN:
                yield from _address(kind, message[at : at + size])
            at += size


def _address(kind: int, data: bytes) -> Iterator[IPAddress]:
    if kind == _A:
        yield IPv4Address(data)
    elif kind == _AAAA and not (address := IPv6Address(data)).is_link_local:
        yield address


def _name(message: bytes, at: int) -> tuple[bytes, int]:
    """Return a name and where it ends; what points in circles raises ValueError."""
    labels: list[bytes] = []
    end = 0
    for _ in range(_MOST_LABELS):
        size = message[at]
        if size == 0:
            return b".".join(labels), end or at + 1
        if size & _POINTER == _POINTER:
            end = end or at + 2
            at = (size & ~_POINTER) << 8 | message[at + 1]
        else:
            labels.append(message[at + 1 : at + 1 + size])
            at += 1 + size
    raise ValueError("a name without an end")
