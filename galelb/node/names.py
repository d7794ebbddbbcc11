# SPDX-License-Identifier: Apache-2.0
"""Looks up the names of balancers, those of mDNS too; notices when they mean another machine."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from ipaddress import ip_address

import trio

from galelb.model import IPAddress
from galelb.node.mdns import ask, is_mdns_name

__all__ = ["Resolve", "connect_tcp", "resolve", "wait_moved"]

Resolve = Callable[[str], Awaitable[frozenset[IPAddress]]]
"""Returns what a name means, never nothing; raises OSError."""

_HEAD_START_S = 0.2
"""The system may know .local names, by /etc/hosts, libnss-mdns or systemd-resolved."""
_LOOK_S = 30.0
_LOOKS = 2
"""So often in a row a name must mean somebody else: resolvers of a moment's half knowledge."""
_HAPPY_EYEBALLS_S = 0.25


async def connect_tcp(host: str, port: int) -> trio.abc.Stream:
    """Connect to the first address of `host` that answers; looks the name up each time.

    Raises:
        OSError: no address answers, or nobody knows the name.
    """
    if not is_mdns_name(host):
        return await trio.open_tcp_stream(host, port, happy_eyeballs_delay=_HAPPY_EYEBALLS_S)
    failure: OSError | None = None
    for address in sorted(await resolve(host), key=_order):
        try:
            return await trio.open_tcp_stream(str(address), port)
        except OSError as error:
            failure = error
    assert failure is not None
    raise failure


async def resolve(host: str) -> frozenset[IPAddress]:
    """Return the addresses of a name. Raises OSError."""
    if not is_mdns_name(host):
        return await _by_the_system(host)
    found: set[IPAddress] = set()
    failures: list[OSError] = []
    async with trio.open_nursery() as nursery:

        async def first(how: Resolve, delay: float) -> None:
            await trio.sleep(delay)
            try:
                found.update(await how(host))
            except OSError as error:
                failures.append(error)
            else:
                nursery.cancel_scope.cancel()

        nursery.start_soon(first, _by_the_system, 0)
        nursery.start_soon(first, ask, _HEAD_START_S)
    if found:
        return frozenset(found)
    raise OSError(0, f"nobody on this machine's networks answers to {host}, nor does DNS know it")


async def _by_the_system(host: str) -> frozenset[IPAddress]:
    try:
        found = await trio.socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise OSError(0, f"{host} is no name that can be looked up") from None
    return frozenset(ip_address(str(entry[4][0]).partition("%")[0]) for entry in found)


def _order(address: IPAddress) -> tuple[int, int]:
    return address.version, int(address)


async def wait_moved(host: str, peer: IPAddress, look: Resolve = resolve) -> str:
    """Return once a name lastingly means other addresses than `peer`; says which.

    A name that cannot be looked up any more has not moved: what is connected stays so.
    """
    away = 0
    while True:
        await trio.sleep(_LOOK_S)
        try:
            found = await look(host)
        except OSError:
            continue
        away = 0 if peer in found else away + 1
        if away == _LOOKS:
            return ", ".join(str(address) for address in sorted(found, key=_order))
