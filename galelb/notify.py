# SPDX-License-Identifier: Apache-2.0
"""Tells a service manager how a daemon stands: readiness, reloads and the watchdog of systemd."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, MutableMapping

import attrs
import trio

from galelb.logs import get_logger

__all__ = ["Notifier", "Ready"]

log = get_logger("galelb.notify")

_SOCKET = "NOTIFY_SOCKET"
_WATCHDOG = "WATCHDOG_USEC"
_WATCHDOG_PID = "WATCHDOG_PID"


@attrs.define
class Notifier:
    """Says it over the socket that the manager named; without one it says nothing.

    Sending never waits and never fails: a manager that does not listen is no reason to stop.
    """

    address: str | None = None
    """Path of the socket; "@" at its begin stands for the NUL of an abstract one."""
    watchdog_s: float | None = None
    """How often the manager wants to hear that we live."""

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str] = os.environ) -> Notifier:
        """Take what the manager said to this process; its children shall not think it theirs."""
        address = environ.pop(_SOCKET, None)
        period, pid = environ.pop(_WATCHDOG, ""), environ.pop(_WATCHDOG_PID, "")
        ours = pid in ("", str(os.getpid()))
        usable = ours and period.isdecimal() and int(period) > 0
        return cls(address or None, int(period) / 1e6 if usable else None)

    def ready(self, status: str) -> None:
        """Say that the start, or a reload, is done."""
        self._send("READY=1", f"STATUS={_line(status)}")

    def reloading(self) -> None:
        """Say that a reload has begun; `ready` ends it, also when nothing changed."""
        moment = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={moment}", "STATUS=reloading")

    def stopping(self) -> None:
        """Say that the end has begun."""
        self._send("STOPPING=1", "STATUS=stopping")

    def status(self, text: str) -> None:
        """Tell people how it stands, in one line."""
        self._send(f"STATUS={_line(text)}")

    async def keep_alive(self) -> None:
        """Answer the watchdog for as long as the loop that runs this task turns.

        It is no thread on purpose: what blocks the loop keeps this from being sent.
        """
        if self.address is None or self.watchdog_s is None:
            return
        while True:
            self._send("WATCHDOG=1")
            await trio.sleep(self.watchdog_s / 2)

    def _send(self, *lines: str) -> None:
        if self.address is None:
            return
        name = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
                sock.sendto("\n".join(lines).encode(), name)
        except OSError as error:
            log.debug("manager_not_told", socket=self.address, reason=error.strerror)


@attrs.frozen
class Ready:
    """Tells the manager once a component has started; what trio calls a task status."""

    notifier: Notifier
    status: Callable[[], str]
    """How it stands then, in one line."""

    def started(self, value: None = None) -> None:
        """Pass it on."""
        del value
        self.notifier.ready(self.status())


def _line(text: str) -> str:
    return " ".join(text.split())
