# SPDX-License-Identifier: Apache-2.0
"""What a machine lacks to serve VIPs whose answers it sends itself."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import attrs

from galelb.model import IPAddress
from galelb.node.host_record import Sysctl

__all__ = ["LOOPBACK", "ReadSysctl", "mending", "missing_sysctls", "prefix"]

LOOPBACK = "lo"
ReadSysctl = Callable[[str], str | None]
"""Returns the value of a sysctl, None when this kernel has none of that name."""

_ALL = "all"
_STRICT, _LOOSE = "1", "2"


@attrs.frozen
class _Wanted:
    key: str
    good: frozenset[str]
    set_to: str


# The kernel heeds the larger value of "all" and the interface: so "all" is for those to come.
_ARP = (
    _Wanted("arp_ignore", frozenset({"1", "2", "8"}), "1"),
    _Wanted("arp_announce", frozenset({"2"}), "2"),
)


def prefix(vip: IPAddress) -> int:
    """Return the prefix length of a VIP on lo: it alone."""
    return vip.max_prefixlen


def missing_sysctls(
    vips: Collection[IPAddress], interfaces: Collection[str], read: ReadSysctl
) -> Iterator[Sysctl]:
    """Yield what is to be changed so that nobody takes this machine for the VIPs' owner.

    Only IPv4 needs it: for IPv6 a machine announces no addresses of other interfaces. Packets
    to a VIP come by another interface than answers leave by, which a strict rp_filter drops.
    """
    if not any(vip.version == 4 for vip in vips):
        return
    scopes = [_ALL, *sorted(name for name in interfaces if name != LOOPBACK)]
    for scope in scopes:
        for one in _ARP:
            name = _name(scope, one.key)
            value = read(name)
            if value is not None and value not in one.good:
                yield Sysctl(name, value, one.set_to)
    everywhere = read(_name(_ALL, "rp_filter"))
    for scope in scopes[1:]:
        name = _name(scope, "rp_filter")
        value = read(name)
        if value is not None and max(value, everywhere or "0") == _STRICT:
            yield Sysctl(name, value, _LOOSE)


def mending(change: Sysctl | IPAddress) -> str:
    """Return the command that does what is missing."""
    if isinstance(change, Sysctl):
        # Names of interfaces may have dots in them, which sysctl takes when slashes separate.
        return f"sysctl -w {change.name}={change.after}"
    nodad = " nodad" if change.version == 6 else ""
    return f"ip address add {change}/{prefix(change)} dev {LOOPBACK}{nodad}"


def _name(scope: str, key: str) -> str:
    return f"net/ipv4/conf/{scope}/{key}"
