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

__all__ = ["CheckOutcome", "LocalHealth"]

log = structlog.get_logger(__name__)


@attrs.frozen(kw_only=True)
class CheckOutcome:
    """A check and its last run."""

    name: str
    passes: bool | None
    """What counts for the node's health; None before the first run."""
    in_a_row: int
    """Runs of one outcome in a row; negative = failures."""
    ran_at: float | None
    """trio's clock; None before the first run."""
    why: str
    """What was wrong when it failed last, or what it still lacks; empty when all is well."""


@attrs.define
class _Standing:
    """How one check stands."""

    rise: int
    fall: int
    passes: bool | None = None
    """None before its first outcome."""
    in_a_row: int = 0
    why: str = ""
    ran_at: float | None = None


class LocalHealth:
    """The node's status; tasks wait on `changed` and look again."""

    def __init__(self, checks: Sequence[CheckSection]) -> None:
        self._checks = {c.name: _Standing(c.rise, c.fall) for c in checks}
        self._leaving = False
        self._stopped = False
        self._known = trio.Event()
        self._lacks = ""
        self.changed = Signal()
        if not checks:
            self._known.set()

    @property
    def status(self) -> HealthStatus:
        """What to report."""
        if self._leaving or self._stopped:
            return HealthStatus.SHUTTING_DOWN
        if not self._lacks and all(check.passes for check in self._checks.values()):
            return HealthStatus.SERVING
        return HealthStatus.NOT_SERVING

    @property
    def message(self) -> str:
        """Why, for people; empty when serving."""
        if self._leaving:
            return "the agent is stopping"
        if self._stopped:
            return "stopped by the operator"
        bad = [
            f"{name}: {c.why or 'not checked yet'}"
            for name, c in self._checks.items()
            if not c.passes
        ]
        return "; ".join([*bad, self._lacks] if self._lacks else bad)

    @property
    def stopped(self) -> bool:
        """Whether an operator wants no traffic here."""
        return self._stopped

    @property
    def lacks(self) -> str:
        """Why this machine cannot serve, whatever the checks say; empty = it can."""
        return self._lacks

    def outcomes(self) -> tuple[CheckOutcome, ...]:
        """Return every check with its last run, in the order of the configuration."""
        return tuple(
            CheckOutcome(
                name=name, passes=c.passes, in_a_row=c.in_a_row, ran_at=c.ran_at, why=c.why
            )
            for name, c in self._checks.items()
        )

    async def wait_known(self) -> None:
        """Wait until every check has had an outcome, so that nothing untrue is reported."""
        await self._known.wait()

    def leave(self) -> None:
        """Say from now on that the node is shutting down."""
        self._leaving = True
        self._known.set()
        self.changed.notify()

    def stop(self) -> None:
        """Say from now on that the node is shutting down, though it goes on reporting."""
        self._stopped = True
        self._known.set()
        self.changed.notify()

    def start(self) -> None:
        """Say again what the checks say."""
        self._stopped = False
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
        check.ran_at = trio.current_time()
        if check.passes:
            check.why = ""
        elif check.in_a_row >= check.rise:
            check.passes = True
            check.why = ""
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
        check.ran_at = trio.current_time()
        check.why = why
        if check.passes is None or (check.passes and -check.in_a_row >= check.fall):
            check.passes = False
            log.warning("check_fails", check=name, reason=why)
            self.changed.notify()
        self._note_known()

    def _note_known(self) -> None:
        if all(check.passes is not None for check in self._checks.values()):
            self._known.set()
