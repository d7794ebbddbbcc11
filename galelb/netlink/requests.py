# SPDX-License-Identifier: Apache-2.0
"""What is asked of the kernel about links, routes, neighbours and addresses; all blocking."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, ip_address
from types import MappingProxyType
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError as KernelError

from galelb.errors import NetlinkError
from galelb.model import Interface, IPAddress
from galelb.netlink.values import Neighbour, NeighbourState, Route

__all__ = [
    "add_address",
    "del_address",
    "explained",
    "interface",
    "interfaces",
    "lasting_addresses",
    "neighbour",
    "neighbours",
    "probe",
    "release",
    "route_to",
]

_NTF_USE = 1
_NTF_EXT_MANAGED = 1
_IFA_F_NODAD = 2
_LENT_S = 30
"""Longer than balancers lend addresses (galelb/netlink/addresses.py), shorter than DHCP does."""
_IFA_F_DEPRECATED = 0x20
_UNICAST, _LOCAL = 1, 2
_DISCARD_PORT = 9
_FOREVER = 2**32 - 1

_HINTS = {
    errno.EPERM: "run as root, or with CAP_NET_ADMIN",
    errno.ENODEV: "the interface does not exist any more",
    errno.ENETUNREACH: "add a route, or correct the address",
    errno.EHOSTUNREACH: "add a route, or correct the address",
}
_ROUTE_HINTS = {
    errno.EINVAL: "a blackhole route covers it, or it is no address of a host",
    errno.EACCES: "a route of type prohibit covers it",
}


@contextlib.contextmanager
def explained(
    what: str, *, fine: tuple[int, ...] = (), hints: Mapping[int, str] = MappingProxyType({})
) -> Iterator[None]:
    """Turn the kernel's refusals into NetlinkError with what was asked and what to do.

    Refusals with an errno in `fine` end the block quietly; `hints` come before the usual ones.
    """
    try:
        yield
    except (KernelError, OSError) as error:
        code: int = (error.code if isinstance(error, KernelError) else error.errno) or 0
        if code in fine:
            return
        reason = os.strerror(code) if code else str(error)
        hint = hints.get(code) or _HINTS.get(code)
        raise NetlinkError(f"{what}: {reason}" + (f"; {hint}" if hint else "")) from error


def lasting_addresses(ipr: IPRoute) -> frozenset[IPAddress]:
    """Return the machine's own addresses: those that are not lent for some seconds only."""
    with explained("list addresses"):
        found = list(ipr.get_addr())
    return frozenset(_address(message) for message in found if not _is_lent(message))


def interfaces(ipr: IPRoute, *, lent: bool = False) -> dict[str, Interface]:
    """Return all interfaces by name, without IPv6 link-local addresses, and those that are `lent`.

    A balancer of a group that starts anew finds what it was lent before, which may be another's
    by now. Addresses that the kernel does not choose by itself come last: many take the first
    one for the machine's own.
    """
    with explained("list interfaces"):
        links = list(ipr.get_links())
        addresses: dict[int, list[IPAddress]] = {}
        for message in sorted(ipr.get_addr(), key=_is_deprecated):
            address = _address(message)
            link_local = address.version == 6 and address.is_link_local
            if not link_local and (lent or not _is_lent(message)):
                addresses.setdefault(message["index"], []).append(address)
    return {
        link.get("ifname"): Interface(
            name=link.get("ifname"),
            ifindex=link["index"],
            mac=link.get("address") or "00:00:00:00:00:00",
            mtu=link.get("mtu"),
            # An address may be there twice, with prefixes of two lengths.
            addresses=tuple(dict.fromkeys(addresses.get(link["index"], ()))),
            kind=link.get(("linkinfo", "kind")) or "",
        )
        for link in links
    }


def interface(ipr: IPRoute, name: str) -> Interface:
    """Return one interface; NetlinkError names those that exist."""
    found = interfaces(ipr)
    if name not in found:
        raise NetlinkError(
            f"interface {name} does not exist; this machine has: {', '.join(sorted(found))}"
        )
    return found[name]


def route_to(ipr: IPRoute, address: IPAddress) -> Route:
    """Return the kernel's way to an address; NetlinkError if there is none."""
    what = f"route to {address}"
    with explained(what, hints=_ROUTE_HINTS):
        (message,) = ipr.route("get", dst=str(address), family=_family(address))
    if message["type"] == _LOCAL:
        raise NetlinkError(f"{what}: it is an address of this machine itself")
    if message["type"] != _UNICAST:
        raise NetlinkError(f"{what}: it is a broadcast or multicast address, or blocked")
    via = message.get("via")
    gateway = message.get("gateway") or (via and via["addr"])
    prefsrc = message.get("prefsrc")
    metrics = message.get("metrics")
    return Route(
        ifindex=message.get("oif"),
        gateway=ip_address(gateway) if gateway else None,
        prefsrc=ip_address(prefsrc) if prefsrc else None,
        mtu=metrics.get("RTAX_MTU") if metrics else None,
    )


def neighbour(ipr: IPRoute, ifindex: int, address: IPAddress) -> Neighbour:
    """Return an entry of the neighbour table; state NONE when there is none."""
    with explained(f"neighbour {address}", fine=(errno.ENOENT,)):
        (message,) = ipr.neigh("get", dst=str(address), ifindex=ifindex, family=_family(address))
        return _neighbour(message)
    return Neighbour(ifindex=ifindex, address=address, mac=None, state=NeighbourState.NONE)


def neighbours(ipr: IPRoute) -> list[Neighbour]:
    """Return the neighbour tables of IPv4 and IPv6."""
    with explained("list neighbours"):
        messages = [
            m
            for family in (socket.AF_INET, socket.AF_INET6)
            for m in ipr.get_neighbours(family=family)
        ]
    return [_neighbour(m) for m in messages if m.get("dst")]


def probe(ipr: IPRoute, ifindex: int, address: IPAddress, *, keep: bool) -> None:
    """Make the kernel resolve a neighbour now; with `keep` it stays resolved from then on.

    A permanent entry is left alone: a request to use it would make it an ordinary one. Kernels
    before 5.16 ignore `keep`. Where the kernel refuses, a datagram to the discard port serves.
    """
    if neighbour(ipr, ifindex, address).state in (NeighbourState.PERMANENT, NeighbourState.NOARP):
        return
    try:
        _use(ipr, ifindex, address, _NTF_EXT_MANAGED if keep else 0)
    except KernelError as error:
        if error.code in (errno.ENODEV, errno.ENETDOWN):
            raise NetlinkError(f"probe {address}: {os.strerror(error.code)}") from error
        _send_datagram(ifindex, address)


def release(ipr: IPRoute, ifindex: int, address: IPAddress) -> None:
    """Let the kernel forget a neighbour that `probe` made it keep; absent is fine."""
    state = neighbour(ipr, ifindex, address).state
    if state not in (NeighbourState.NONE, NeighbourState.PERMANENT, NeighbourState.NOARP):
        with explained(f"release neighbour {address}"):
            _use(ipr, ifindex, address, 0)


def add_address(
    ipr: IPRoute, ifindex: int, address: IPAddress, prefix: int, valid_s: int | None
) -> None:
    """Give an interface an address, or renew its lifetime (seconds; None = for ever)."""
    lifetime = _FOREVER if valid_s is None else valid_s
    options: dict[str, Any] = {} if address.version == 4 else {"flags": _IFA_F_NODAD}
    with explained(f"add address {address}/{prefix}"):
        ipr.addr(
            "replace",
            index=ifindex,
            address=str(address),
            prefixlen=prefix,
            preferred=lifetime,
            valid=lifetime,
            **options,
        )


def del_address(ipr: IPRoute, ifindex: int, address: IPAddress, prefix: int) -> None:
    """Take an address from an interface; absent (or no such interface) is fine."""
    absent = (errno.EADDRNOTAVAIL, errno.ENODEV)
    with explained(f"remove address {address}/{prefix}", fine=absent):
        ipr.addr("del", index=ifindex, address=str(address), prefixlen=prefix)


def _address(message: Any) -> IPAddress:
    return ip_address(message.get("local") or message.get("address"))


def _is_lent(message: Any) -> bool:
    valid_s: int = message.get("cacheinfo")["ifa_valid"]
    return valid_s <= _LENT_S


def _is_deprecated(message: Any) -> bool:
    return bool((message.get("flags") or 0) & _IFA_F_DEPRECATED)


def _use(ipr: IPRoute, ifindex: int, address: IPAddress, extended: int) -> None:
    ipr.neigh(
        "replace",
        dst=str(address),
        ifindex=ifindex,
        family=_family(address),
        state=0,
        flags=_NTF_USE,
        flags_ext=extended,
    )


def _send_datagram(ifindex: int, address: IPAddress) -> None:
    with (
        explained(f"probe {address}"),
        socket.socket(_family(address), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock,
    ):
        name = socket.if_indextoname(ifindex)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name.encode() + b"\0")
        sock.sendto(b"\0", (str(address), _DISCARD_PORT))


def _neighbour(message: Any) -> Neighbour:
    state = NeighbourState.of_kernel(message["state"])
    mac = message.get("lladdr")
    return Neighbour(
        ifindex=message["ifindex"],
        address=ip_address(message.get("dst")),
        mac=mac if mac and state.has_mac else None,
        state=state,
    )


def _family(address: IPAddress) -> socket.AddressFamily:
    return socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6
