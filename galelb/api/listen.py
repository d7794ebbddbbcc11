# SPDX-License-Identifier: Apache-2.0
"""Open the API's sockets; every way in which that can fail has a message."""

from __future__ import annotations

import errno
import grp
import os
import socket
import stat
from ipaddress import IPv6Address
from pathlib import Path

from galelb.errors import ApiError
from galelb.model import IPAddress

__all__ = ["BACKLOG", "SOCKET_FILE", "listen_tcp", "listen_unix"]

BACKLOG = 64
SOCKET_FILE = "api.sock"
IPV6_FREEBIND = 78  # linux/in6.h; the socket module does not name it


_RIVAL = "a running balancer answers there; stop it, or give this one another [instance] name"


def listen_tcp(
    address: IPAddress,
    port: int,
    ifindex: int | None = None,
    *,
    key: str = "[private_interface] api_port",
) -> socket.socket:
    """Return a listening socket that the caller closes.

    `ifindex` is needed for an IPv6 link-local address without a zone of its own; `key` is where
    the port is configured. Raises ApiError: port in use, address not on this machine, or an
    address that means all of them.
    """
    where = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
    if address.is_unspecified or address.is_multicast:
        raise ApiError(f"the API does not listen on {where}: private addresses only")
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            # An address that was just added is not usable before duplicate detection ends.
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
        sock.bind(_sockaddr(address, port, ifindex))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ApiError(f"the API cannot listen on {where}: {_advice(error, key)}") from error
    return sock


def _sockaddr(
    address: IPAddress, port: int, ifindex: int | None
) -> tuple[str, int] | tuple[str, int, int, int]:
    if not isinstance(address, IPv6Address):
        return str(address), port
    plain = str(address).partition("%")[0]
    zone = address.scope_id
    if zone is not None:
        index = int(zone) if zone.isdigit() else socket.if_nametoindex(zone)
    else:
        index = ifindex or 0
    return plain, port, 0, index if address.is_link_local else 0


def _advice(error: OSError, key: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            "another program has this port (`ss -ltnp` shows which, perhaps another galelb); "
            f"stop it or change {key}"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return "the address is not on this machine"
    return error.strerror or str(error)


def listen_unix(path: Path, *, rival: str = _RIVAL, group: str = "") -> socket.socket:
    """Return a listening socket at `path`, for its owner and `group`; the caller closes, unlinks.

    Replaces the socket that a dead process left. Raises ApiError when a live one answers
    there (with the text `rival`), when something else is in the way, and for an unknown group.
    """
    sock = socket.socket(
        socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path, rival)
        # On Linux the file inherits the mode of the socket: no moment in which it is open to all.
        os.fchmod(sock.fileno(), 0o600)
        sock.bind(str(path))
        if group:
            _admit(path, group)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        reason = error.strerror or str(error)  # a path of over 107 bytes has no errno
        raise ApiError(f"the API cannot listen on {path}: {reason}") from error
    except ApiError:
        sock.close()
        raise
    return sock


def _admit(path: Path, group: str) -> None:
    try:
        number = grp.getgrnam(group).gr_gid
    except KeyError:
        path.unlink()
        raise ApiError(f"the API cannot listen on {path}: there is no group {group!r}") from None
    os.chown(path, -1, number)
    path.chmod(0o660)


def _remove_stale(path: Path, rival: str) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ApiError(f"the API cannot listen on {path}: a file that is no socket is in the way")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        # EAGAIN: alive, but its backlog is full.
        if probe.connect_ex(str(path)) in (0, errno.EAGAIN):
            raise ApiError(f"the API cannot listen on {path}: {rival}")
    path.unlink()
