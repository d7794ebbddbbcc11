# SPDX-License-Identifier: Apache-2.0
"""Keeps two running balancers from attaching to the same interface."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from galelb.errors import GaleError

__all__ = ["claim", "claimed", "is_claimed"]


@contextlib.contextmanager
def claimed(names: Iterable[str]) -> Iterator[None]:
    """Hold interfaces of this network namespace for as long as the block runs.

    Whoever comes second would replace the programs of a balancer that forwards, so it gets a
    GaleError. A claim ends with its process, however that dies.
    """
    with contextlib.ExitStack() as stack:
        for name in names:
            taken = stack.enter_context(claim(name))
            if taken is not None:
                raise GaleError(
                    f"interface {name} belongs to another balancer that is running, or to a node"
                    f" agent with tunnels{_who(taken)}: stop it, or use another interface"
                )
        yield


@contextlib.contextmanager
def claim(name: str) -> Iterator[int | None]:
    """Try to hold one interface; the value is None, or the pid (0 = unknown) of who has it.

    Abstract sockets belong to a network namespace, as interfaces do, and leave no file behind.
    """
    address = _address(name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as held:
        try:
            held.bind(address)
            held.listen(8)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise GaleError(f"interface {name} cannot be claimed: {error.strerror}") from None
            yield _holder(address)
        else:
            yield None


def is_claimed(name: str) -> bool:
    """Return whether a process of the calling thread's network namespace has an interface.

    It is not asked who: nobody accepts its answers, so it can be asked a few times only.
    """
    with contextlib.suppress(OSError):
        sockets = Path("/proc/thread-self/net/unix").read_text().splitlines()
        return any(line.endswith(f" @galelb/interface/{name}") for line in sockets)
    return False


def _address(name: str) -> str:
    return f"\0galelb/interface/{name}"


def _holder(address: str) -> int:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(1)
        try:
            asking.connect(address)
            peer = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        except OSError:
            return 0
        pid: int = struct.unpack("3i", peer)[0]
        return pid


def _who(pid: int) -> str:
    return f" (pid {pid})" if pid else ""
