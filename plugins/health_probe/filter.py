# SPDX-License-Identifier: Apache-2.0
"""Lets a packet socket see only what nodes answer to our ports: a classic BPF program."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence

from galelb.model import IPAddress

__all__ = ["attach_filter", "filter_code"]

_SO_ATTACH_FILTER = 26
_LOAD_WORD, _LOAD_HALF, _LOAD_BYTE = 0x20, 0x28, 0x30
_LOAD_HALF_AFTER_IPV4, _IPV4_LENGTH = 0x48, 0xB1
_EQUAL, _ANY_BIT, _AT_LEAST = 0x15, 0x45, 0x35
_RETURN = 0x06
_TCP = 6
_FRAGMENT = 0x1FFF
_ALL = 0xFFFF

Instruction = tuple[int, int, int, int]
"""Code, jump if true, jump if false, constant."""


def filter_code(address: IPAddress, ports: range) -> bytes:
    """Return a program that takes TCP to this address and these ports; packets begin with IP."""
    words = struct.unpack(f"!{len(address.packed) // 4}I", address.packed)
    if address.version == 4:
        tests = [
            *_must(_LOAD_BYTE, 9, _EQUAL, _TCP),
            *_must(_LOAD_WORD, 16, _EQUAL, words[0]),
            *_must_not(_LOAD_HALF, 6, _ANY_BIT, _FRAGMENT),
            (_IPV4_LENGTH, 0, 0, 0),
        ]
        load_port = (_LOAD_HALF_AFTER_IPV4, 2)
    else:
        tests = _must(_LOAD_BYTE, 6, _EQUAL, _TCP)
        for position, word in enumerate(words):
            tests += _must(_LOAD_WORD, 24 + 4 * position, _EQUAL, word)
        load_port = (_LOAD_HALF, 42)
    tests += _must(*load_port, _AT_LEAST, ports.start)
    tests += _must_not(*load_port, _AT_LEAST, ports.stop)
    program = [*tests, (_RETURN, 0, 0, _ALL)]
    return b"".join(struct.pack("HBBI", *one) for one in program)


def attach_filter(sock: socket.socket, code: bytes) -> None:
    """Attach a program; what has arrived before it is in the queue already."""
    import ctypes

    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("HL", len(code) // 8, ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def _must(load: int, offset: int, test: int, value: int) -> list[Instruction]:
    """Load and go on if the test holds, else refuse: the next instruction but one says so."""
    return [(load, 0, 0, offset), (test, 1, 0, value), (_RETURN, 0, 0, 0)]


def _must_not(load: int, offset: int, test: int, value: int) -> Sequence[Instruction]:
    return [(load, 0, 0, offset), (test, 0, 1, value), (_RETURN, 0, 0, 0)]
