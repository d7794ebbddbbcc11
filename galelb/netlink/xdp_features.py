# SPDX-License-Identifier: Apache-2.0
"""Asks the kernel (6.3 and newer) what a driver can do with XDP: generic netlink, family netdev."""

from __future__ import annotations

import enum
import os
import socket
import struct
from collections.abc import Iterator

from galelb.errors import NetlinkError

__all__ = ["XdpFeature", "xdp_features"]

_GENERIC = 16  # linux/netlink.h: NETLINK_GENERIC
_REQUEST = 1
_ERROR = 2
_CONTROL, _GET_FAMILY = 16, 3  # linux/genetlink.h
_FAMILY_ID, _FAMILY_NAME = 1, 2
_DEV_GET, _IFINDEX, _XDP_FEATURES = 1, 1, 3  # linux/netdev.h
_MESSAGE, _GENL = struct.Struct("=IHHII"), struct.Struct("=BBH")
_ATTRIBUTE = struct.Struct("=HH")


class XdpFeature(enum.IntFlag):
    """What a driver can do, with the kernel's bits (NETDEV_XDP_ACT_*)."""

    BASIC = 1
    """Native programs run on it."""
    REDIRECT = 2
    """Native programs may send frames to other interfaces."""
    NDO_XMIT = 4
    """It takes frames that native programs elsewhere send to it."""


def xdp_features(ifindex: int) -> XdpFeature | None:
    """Return what an interface can do; None where the kernel does not tell.

    Blocks; works in the network namespace of the calling thread. Raises NetlinkError.
    """
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _GENERIC) as s:
            s.settimeout(2)
            s.bind((0, 0))
            name = _attribute(_FAMILY_NAME, b"netdev\0")
            family = _ask(s, _CONTROL, _GET_FAMILY, name).get(_FAMILY_ID)
            if family is None:
                return None
            number = struct.unpack_from("=H", family)[0]
            wanted = _attribute(_IFINDEX, struct.pack("=I", ifindex))
            bits = _ask(s, number, _DEV_GET, wanted).get(_XDP_FEATURES)
    except OSError as error:
        raise NetlinkError(f"XDP features of interface {ifindex}: {error.strerror}") from None
    return None if bits is None else XdpFeature(struct.unpack_from("=Q", bits)[0] & 7)


def _ask(kernel: socket.socket, family: int, command: int, attributes: bytes) -> dict[int, bytes]:
    """Return the attributes of the answer; none when there is no such family. Raises OSError."""
    payload = _GENL.pack(command, 1, 0) + attributes
    kernel.send(_MESSAGE.pack(_MESSAGE.size + len(payload), family, _REQUEST, 1, 0) + payload)
    answer = kernel.recv(1 << 16)
    _, kind, _, _, _ = _MESSAGE.unpack_from(answer)
    if kind == _ERROR:
        code = -struct.unpack_from("=i", answer, _MESSAGE.size)[0]
        if family == _CONTROL:
            return {}
        raise OSError(code, os.strerror(code))
    return dict(_attributes(answer[_MESSAGE.size + _GENL.size :]))


def _attribute(kind: int, content: bytes) -> bytes:
    size = _ATTRIBUTE.size + len(content)
    return _ATTRIBUTE.pack(size, kind) + content + bytes(-size % 4)


def _attributes(content: bytes) -> Iterator[tuple[int, bytes]]:
    while len(content) >= _ATTRIBUTE.size:
        size, kind = _ATTRIBUTE.unpack_from(content)
        if size < _ATTRIBUTE.size:
            return
        yield kind & 0x3FFF, content[_ATTRIBUTE.size : size]
        content = content[(size + 3) & ~3 :]
