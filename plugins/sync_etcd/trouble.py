# SPDX-License-Identifier: Apache-2.0
"""What is wrong between this balancer and etcd, for logs, status and metrics."""

from __future__ import annotations

import structlog
import trio
from galelb_plugins.sync_etcd.member import NamesakeError

from galelb.errors import GaleError

__all__ = ["Trouble"]

log = structlog.get_logger(__name__)

_NAMESAKE_S = 60.0
"""How long a balancer of the same name is told of, since it takes turns with this one."""


class Trouble:
    """Counts failures, and tells the first of an outage."""

    def __init__(self, name: str) -> None:
        self.failures = 0
        self.text = ""
        """Why etcd cannot be used now; empty when it can."""
        self._name = name
        self._namesake = ""
        self._namesake_until = float("-inf")

    def failed(self, error: Exception) -> None:
        """Take in that a session with etcd ended."""
        self.failures += 1
        if isinstance(error, NamesakeError):
            self._met_namesake(str(error))
            return
        known = isinstance(error, GaleError)
        text = str(error) if known else f"answer not understood ({type(error).__name__})"
        if not self.text:
            log.error("etcd cannot be used: all stays as it was last agreed", error=text)
        self.text = text

    def over(self) -> None:
        """Take in that etcd does all that is wanted."""
        if self.text:
            log.info("etcd can be used again")
        self.text = ""

    def notes(self) -> list[str]:
        """Return sentences for `galelb status`."""
        notes = []
        if self.text:
            because = f"since etcd cannot be used: {self.text}"
            notes.append(f"sync_etcd: all stays as it was last agreed, {because}")
        if trio.current_time() < self._namesake_until:
            notes.append(f"sync_etcd: {self._namesake}")
        return notes

    def _met_namesake(self, text: str) -> None:
        now = trio.current_time()
        if now >= self._namesake_until:
            log.error("two balancers have one name", name=self._name, error=text)
        self._namesake, self._namesake_until = text, now + _NAMESAKE_S
