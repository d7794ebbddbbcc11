# SPDX-License-Identifier: Apache-2.0
"""Reads and sets the few offloads that matter where XDP runs generic or TC is used."""

from __future__ import annotations

import ctypes
import fcntl
import socket
from collections.abc import Mapping

from galelb.netlink.requests import explained

__all__ = ["OFFLOADS", "offloads", "set_offloads"]

OFFLOADS = ("gro", "lro", "rxvlan", "tx")

_SIOCETHTOOL = 0x8946
_COMMANDS = {"tx": (0x16, 0x17), "gro": (0x2B, 0x2C)}
_GET_FLAGS, _SET_FLAGS = 0x25, 0x26
_FLAGS = {"lro": 1 << 15, "rxvlan": 1 << 8}


class _Value(ctypes.Structure):
    _fields_ = (("command", ctypes.c_uint32), ("data", ctypes.c_uint32))


class _Request(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char * 16),
        ("value", ctypes.POINTER(_Value)),
        ("pad", ctypes.c_char * 16),
    )


def offloads(name: str) -> dict[str, bool]:
    """Return which of OFFLOADS are on. Raises NetlinkError."""
    found = {key: bool(_call(name, get)) for key, (get, _) in _COMMANDS.items()}
    flags = _call(name, _GET_FLAGS)
    return found | {key: bool(flags & bit) for key, bit in _FLAGS.items()}


def set_offloads(name: str, wanted: Mapping[str, bool]) -> dict[str, bool]:
    """Switch offloads; return how those that changed were before, to restore them later.

    What already is as wanted is not touched, since setting it may be refused. Raises
    NetlinkError, KeyError for a name that is not in OFFLOADS.
    """
    before = offloads(name)
    changes = {key: on for key, on in wanted.items() if before[key] != on}
    for key, on in changes.items():
        if key in _COMMANDS:
            _call(name, _COMMANDS[key][1], int(on))
    if bits := [key for key in changes if key in _FLAGS]:
        flags = _call(name, _GET_FLAGS)
        for key in bits:
            flags = flags | _FLAGS[key] if changes[key] else flags & ~_FLAGS[key]
        _call(name, _SET_FLAGS, flags)
    return {key: before[key] for key in changes}


def _call(name: str, command: int, data: int = 0) -> int:
    value = _Value(command, data)
    request = _Request(name.encode()[:15], ctypes.pointer(value))
    with (
        explained(f"offloads of interface {name}"),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock,
    ):
        fcntl.ioctl(sock, _SIOCETHTOOL, request)
    return int(value.data)
