# SPDX-License-Identifier: Apache-2.0
"""Whether the kernel's own tunnel devices do what our program is not allowed to do."""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
from collections.abc import Collection, Iterable, Iterator

from galelb.model import Interface
from galelb.node.tunnels import End

__all__ = ["is_up", "missing_tunnels", "tunnel_devices"]

_SIOCGIFFLAGS = 0x8913
_IFF_UP = 1
_DEVICES = {  # (outer, inner family): kind of device, module, the device that takes any packet
    (4, 4): ("ipip", "ipip", "tunl0"),
    (4, 6): ("sit", "sit", "sit0"),
    (6, 4): ("ip6tnl", "ip6_tunnel", "ip6tnl0"),
    (6, 6): ("ip6tnl", "ip6_tunnel", "ip6tnl0"),
}


def is_up(name: str) -> bool:
    """Return whether an interface of the calling thread's network namespace is up."""
    request = struct.pack("16sH14x", name.encode(), 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            answer = fcntl.ioctl(asking, _SIOCGIFFLAGS, request)
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
            return False
    flags: int = struct.unpack_from("H", answer, 16)[0]
    return bool(flags & _IFF_UP)


def tunnel_devices(interfaces: Iterable[Interface]) -> list[Interface]:
    """Return tunnel devices that are up, in the calling thread's network namespace."""
    kinds = {kind for kind, _, _ in _DEVICES.values()}
    return [one for one in interfaces if one.kind in kinds and is_up(one.name)]


def missing_tunnels(
    tunnels: Collection[End], outer: Collection[int], devices: Collection[Interface]
) -> Iterator[tuple[str, str]]:
    """Yield what the kernel does not unpack, in words, and the command that makes it do so.

    `outer`: the families that tunnels come in; `devices`: those of the kernel. That somebody
    made the kernel listen to the port of GUE cannot be seen, so it is taken for granted where
    the device is there.
    """
    kinds = {interface.kind for interface in devices}
    for end in sorted(tunnels, key=str):
        for version in sorted(outer):
            kind, module, device = _DEVICES[version, end.address.version]
            if kind in kinds:
                continue
            command = f"modprobe {module} && ip link set {device} up"
            if end.port:
                family = " -6" if version == 6 else ""
                command = f"modprobe fou && ip fou add port {end.port}{family} gue && {command}"
            how = f"UDP port {end.port} (GUE)" if end.port else "IP packets"
            yield f"packets to {end.address} come inside {how} and stay there", command
