# SPDX-License-Identifier: Apache-2.0
"""One node's stream of reports: takes them in, answers each, and bounds how many there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import trio
from galelb_plugins.health_grpc.protocol import answer_to, config_version, report_from

from galelb.errors import GaleError
from galelb.grpc.call import Call
from galelb.grpc.framing import CallError, StatusCode
from galelb.grpc.limits import Budget
from galelb.model import HealthReport, IPAddress, NodeRecord, NodeSetup
from galelb.sources import BalancerContext

__all__ = ["REPORTS_PER_S", "Reports", "Versions"]

REPORTS_PER_S = 20.0
"""Per stream, averaged over 10 s; a node that is faster has to wait."""


class Versions:
    """The version of what nodes are set up for; worked out anew only when that is another."""

    def __init__(self, setups: Callable[[], Sequence[NodeSetup]]) -> None:
        self._setups = setups
        self._of: Sequence[NodeSetup] = ()
        self._version = ""

    def current(self) -> str:
        """Return the version of the present set-ups; empty for none."""
        setups = self._setups()
        if setups is not self._of:
            self._of, self._version = setups, config_version(setups)
        return self._version


@attrs.define(eq=False)
class Reports:
    """The conversation of one stream.

    Most reports repeat the last one, and so do most answers: then nothing is decoded or encoded.
    """

    call: Call
    peer: IPAddress
    context: BalancerContext
    versions: Versions
    heard_at: float
    """When the last report came, or the stream."""
    _budget: Budget = attrs.Factory(lambda: Budget(REPORTS_PER_S))
    _payload: bytes | None = None
    _report: HealthReport | None = None
    _answered: tuple[HealthReport, NodeRecord, str] | None = None
    _answer: bytes = b""

    async def run(self) -> None:
        """Take reports until the node ends its stream. Raises CallError."""
        goes_on = await self.call.consume(self.take)
        while goes_on:  # too many reports: this stream has to wait
            await trio.sleep(1 / REPORTS_PER_S)
            goes_on = await self.call.consume(self.take)

    def take(self, payload: bytes) -> bool:
        """Take one report and answer it; returns whether the next may come at once."""
        self.heard_at = trio.current_time()
        report = self._decoded(payload)
        try:
            record = self.context.report(report)
        except GaleError as error:
            raise CallError(StatusCode.RESOURCE_EXHAUSTED, str(error)) from None
        # A node that does not read misses answers, but its reports still count.
        self.call.send_nowait(self._encoded(report, record))
        return self._budget.spend(self.heard_at)

    def end(self, error: CallError) -> None:
        """End the stream with an error."""
        self.call.finish(error.code, error.message)
        self.call.fail(error)

    def _decoded(self, payload: bytes) -> HealthReport:
        if self._report is None or payload != self._payload:
            self._report = report_from(payload, self.peer)
            self._payload = payload
        return self._report

    def _encoded(self, report: HealthReport, record: NodeRecord) -> bytes:
        version = self.versions.current()
        last = self._answered
        if last is None or last[0] is not report or last[1] is not record or last[2] != version:
            self._answer = answer_to(report, record, version)
            self._answered = report, record, version
        return self._answer
