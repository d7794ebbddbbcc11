# SPDX-License-Identifier: Apache-2.0
"""What a node says of itself: the outcomes of its checks, or that it is leaving."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import structlog
import trio

from galelb.config.node import CheckSection
from galelb.grpc.signal import Signal
from galelb.model import HealthStatus

__all__ = ["LocalHealth"]

log = structlog.get_logger(__name__)


@attrs.define
class _Standing:
    """How one check stands."""

    rise: int
    fall: int
    passes: bool | None = None
    """None before its first outcome."""
    in_a_row: int = 0
    why: str = ""


class LocalHealth:
    """The node's status; tasks wait on `changed` and look again."""

    def __init__(self, checks: Sequence[CheckSection]) -> None:
        self._checks = {c.name: _Standing(c.rise, c.fall) for c in checks}
        self._leaving = False
        self._known = trio.Event()
        self._lacks = ""
        self.changed = Signal()
        if not checks:
            self._known.set()

    @property
    def status(self) -> HealthStatus:
        """What to report."""
        if self._leaving:
            return HealthStatus.SHUTTING_DOWN
        if not self._lacks and all(check.passes for check in self._checks.values()):
            return HealthStatus.SERVING
        return HealthStatus.NOT_SERVING

    @property
    def message(self) -> str:
        """Why, for people; empty when serving."""
        if self._leaving:
            return "the agent is stopping"
        bad = [f"{name}: {c.why}" for name, c in self._checks.items() if not c.passes]
        return "; ".join([*bad, self._lacks] if self._lacks else bad)

    async def wait_known(self) -> None:
        """Wait until every check has had an outcome, so that nothing untrue is reported."""
        await self._known.wait()

    def leave(self) -> None:
        """Say from now on that the node is shutting down."""
        self._leaving = True
        self._known.set()
        self.changed.notify()

    def host_lacks(self, why: str) -> None:
        """Note why this machine cannot serve, whatever the checks say; empty = it can."""
        news = bool(why) != bool(self._lacks)
        self._lacks = why
        if news:
            self.changed.notify()

    def passed(self, name: str) -> None:
        """Note that a check passed."""
        check = self._checks[name]
        check.in_a_row = check.in_a_row + 1 if check.in_a_row > 0 else 1
        if not check.passes and check.in_a_row >= check.rise:
            check.passes = True
            log.info("check_passes", check=name)
            self.changed.notify()
        elif check.passes is None:
            check.why = f"passed {check.in_a_row} of {check.rise} times"
            check.passes = False
        self._note_known()

    def failed(self, name: str, why: str) -> None:
        """Note that a check failed, and why."""
        check = self._checks[name]
        check.in_a_row = check.in_a_row - 1 if check.in_a_row < 0 else -1
        if check.passes is None or (check.passes and -check.in_a_row >= check.fall):
            check.passes = False
            log.warning("check_fails", check=name, reason=why)
            check.why = why
            self.changed.notify()
        elif not check.passes:
            check.why = why
        self._note_known()

    def _note_known(self) -> None:
        if all(check.passes is not None for check in self._checks.values()):
            self._known.set()
