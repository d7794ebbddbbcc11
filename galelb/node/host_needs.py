# SPDX-License-Identifier: Apache-2.0
"""What a machine lacks to serve VIPs whose answers it sends itself."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import attrs

from galelb.model import Interface, IPAddress
from galelb.node.host_record import Sysctl

__all__ = ["LOOPBACK", "Need", "ReadSysctl", "mending", "missing_sysctls", "prefix"]

LOOPBACK = "lo"
ReadSysctl = Callable[[str], str | None]
"""Returns the value of a sysctl, None when this kernel has none of that name."""

_ALL = "all"
_OFF, _STRICT, _LOOSE = "0", "1", "2"


@attrs.frozen(kw_only=True)
class Need:
    """What packets come to this machine, and how."""

    vips: Collection[IPAddress]
    interfaces: Collection[str]
    """All of the machine's."""
    tunnels: Collection[Interface] = ()
    """Those by which packets come in tunnels."""

    def has(self, version: int) -> bool:
        """Whether there are VIPs of IPv4 or IPv6."""
        return any(vip.version == version for vip in self.vips)


@attrs.frozen
class _Wanted:
    key: str
    good: frozenset[str]
    set_to: str


# The kernel heeds the larger value of "all" and the interface: so "all" is enough, unless an
# interface has a larger one that says something else.
_ARP = (
    _Wanted("arp_ignore", frozenset({"1", "2", "8"}), "1"),
    _Wanted("arp_announce", frozenset({"2"}), "2"),
)


def prefix(vip: IPAddress) -> int:
    """Return the prefix length of a VIP on lo: it alone."""
    return vip.max_prefixlen


def missing_sysctls(need: Need, read: ReadSysctl) -> Iterator[Sysctl]:
    """Yield what is to be changed, in this order, so that the VIPs work and stay unheard of."""
    if need.has(4):
        yield from _silence(need, read)
        yield from _reverse_path(need, read)
    if need.has(6):
        # IPv6 from an IPv4 tunnel comes in by an interface that may have had no use for it.
        for interface in need.tunnels:
            name = f"net/ipv6/conf/{interface.name}/disable_ipv6"
            if read(name) == "1":
                yield Sysctl(name, "1", "0")


def _silence(need: Need, read: ReadSysctl) -> Iterator[Sysctl]:
    """Nobody may take this machine for the VIPs' owner.

    Only IPv4 needs it: for IPv6 a machine announces no addresses of other interfaces.
    """
    for one in _ARP:
        everywhere = _OFF
        for scope in (_ALL, *_others(need)):
            name = _name(scope, one.key)
            value = read(name)
            if value is None:
                continue
            if max(value, everywhere) not in one.good:
                yield Sysctl(name, value, one.set_to)
                value = one.set_to
            if scope == _ALL:
                everywhere = value


def _reverse_path(need: Need, read: ReadSysctl) -> Iterator[Sysctl]:
    """Packets to a VIP come by another interface than answers leave by.

    A strict rp_filter drops them, and on an interface without an IPv4 address, by which IPv4 may
    come in an IPv6 tunnel, a loose one as well: then none may be set for "all", and the other
    interfaces keep theirs by a value of their own.
    """
    bare = {i.name for i in need.tunnels if all(a.version != 4 for a in i.addresses)}
    everywhere = read(_name(_ALL, "rp_filter")) or _OFF
    lifted = bool(bare) and everywhere != _OFF
    for scope in _others(need):
        name = _name(scope, "rp_filter")
        value = read(name)
        if value is None:
            continue
        wanted = value
        if scope in bare:
            wanted = _OFF
        elif lifted or max(value, everywhere) == _STRICT:
            wanted = _LOOSE
        if wanted != value:
            yield Sysctl(name, value, wanted)
    if lifted:
        yield Sysctl(_name(_ALL, "rp_filter"), everywhere, _OFF)


def _others(need: Need) -> list[str]:
    return sorted(name for name in need.interfaces if name != LOOPBACK)


def mending(change: Sysctl | IPAddress) -> str:
    """Return the command that does what is missing."""
    if isinstance(change, Sysctl):
        # Names of interfaces may have dots in them, which sysctl takes when slashes separate.
        return f"sysctl -w {change.name}={change.after}"
    nodad = " nodad" if change.version == 6 else ""
    return f"ip address add {change}/{prefix(change)} dev {LOOPBACK}{nodad}"


def _name(scope: str, key: str) -> str:
    return f"net/ipv4/conf/{scope}/{key}"
