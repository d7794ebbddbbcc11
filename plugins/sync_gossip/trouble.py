# SPDX-License-Identifier: Apache-2.0
"""Failures of sockets: an interface that is down fails each datagram, and the log needs it once."""

from __future__ import annotations

import errno

import structlog
import trio

__all__ = ["Trouble"]

log = structlog.get_logger(__name__)

_QUIET_S = 60.0


class Trouble:
    """Logs each kind of failure at most once a minute."""

    def __init__(self) -> None:
        self._logged: dict[tuple[str, int], float] = {}

    def note(self, doing: str, error: OSError) -> None:
        """Take note of a failure, which ends nothing."""
        now, kind = trio.current_time(), (doing, error.errno or 0)
        if now < self._logged.get(kind, -_QUIET_S) + _QUIET_S:
            return
        self._logged[kind] = now
        name = errno.errorcode.get(error.errno or 0, "")
        log.warning("sync_gossip_socket", doing=doing, error=error.strerror or name or str(error))
