# SPDX-License-Identifier: Apache-2.0
"""The state machine of one node: what its reports, its silence and the operator make of it.

Everything that moves a node between states is in this file. Times are seconds of a monotonic
clock that the caller reads. A *voice* is what one health source says about one service of the
node; the rules over all voices of a node:

- any voice that says "not serving" takes the node down, whatever the others say;
- a node becomes routable when each of its voices has said "serving" `checks_before_routing`
  times in a row. Reports with the same time stamp are one report; others count however near
  they are, so that probation is never shorter than that many distinct reports;
- a voice that is silent for `checks_timeout`, or whose source lost the node, is forgotten; a
  node without a voice is down;
- a fall from routable is a failure, unless the node was draining (by the operator or because
  it announced its shutdown) or only our own restart explains the silence.

A *check* is what a source says that looks at nodes itself (`HealthSource.checks`), one word per
source and node. It can only bar a node, and so needs no time-out:

- a failed check takes the node down, whatever the node says of itself;
- a node that has to report (it is not configured) stays down without a voice, however well its
  checks go: only the node knows that it wants traffic;
- a check that has not spoken yet keeps a node from becoming routable, but takes no node down;
- a check keeps its last word until its source says something else, gives the node up, or is no
  longer in use. If the source hangs, that is no fault of the nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import attrs

from galelb.health.agreed import Agreed
from galelb.health.settings import HealthSettings
from galelb.health.voices import MAX_TEXT, Check, Voice, announced_weight, plain_text, words
from galelb.health.weights import FULL, MAX_WEIGHT, LoadShare, SlowStart
from galelb.model import HealthReport, HealthStatus, HealthWord, Node, NodeRecord, NodeState

__all__ = ["MAX_TEXT", "MAX_VOICES", "HealthSettings", "NodeMachine", "plain_text"]

MAX_VOICES = 16
"""Per node; the stalest is forgotten for a new one, so a babbling node costs only itself."""


@attrs.define(kw_only=True)
class NodeMachine:
    """One node. Call `advance(now)` before every other call that takes a time."""

    settings: HealthSettings
    node: Node
    state: NodeState = NodeState.PROBATION
    since: float
    """When `state` was entered."""
    reason: str = ""
    operator_draining: bool = False
    announced: bool = False
    """Whether the node itself said that it is shutting down."""
    operator_weight: int | None = None
    failures: int = 0
    neighbour: str | None = None
    adopted_until: float | None = None
    """Until then an adopted node keeps its state without a report."""
    carried: int = 0
    """Reports in a row from before our restart."""
    voices: dict[tuple[str, str], Voice] = attrs.Factory(dict)
    checks: dict[str, Check] = attrs.Factory(dict)
    """By source; with those that have not spoken yet."""
    configured_weight: int = 1
    """What it weighs while it announces nothing."""
    agreed: Agreed = attrs.Factory(Agreed)
    start: SlowStart = attrs.Factory(SlowStart)
    load: LoadShare = attrs.Factory(LoadShare)
    others_warm: Callable[[float], bool] = attrs.field(default=lambda _: True, eq=False)
    """Whether another node has had flows for a while, and can carry what a slow start spares."""
    mean_load: Callable[[float], float | None] = attrs.field(default=lambda _: None, eq=False)
    """The mean of all nodes with flows; None = nothing is known."""

    def record(self) -> NodeRecord:
        """Return the node as others see it."""
        return NodeRecord(
            node=self.node,
            state=self.state,
            draining=self.operator_draining or self.announced,
            operator_draining=self.operator_draining,
            operator_weight=self.operator_weight,
            failures=self.failures,
            reports=self.reports,
            reason=self._full_reason(),
            neighbour=self.neighbour,
            start_share=self.start.share,
            load_share=self.load_share,
            group=self.agreed.routable,
        )

    @property
    def load_share(self) -> int:
        """Percent of the weight that the load leaves; the operator's word is not questioned."""
        heeded = self.settings.load_weight and self.operator_weight is None
        return self.load.share if heeded else FULL

    @property
    def reports(self) -> int:
        """Serving reports in a row, at most as many as are needed."""
        needed = self.settings.checks_before_routing
        if self.state is NodeState.ROUTABLE:
            return 0 if self.node.static else needed
        streaks = [voice.streak for voice in self.voices.values()]
        return min([needed, *streaks]) if streaks else self.carried

    # what happens to a node

    def report(self, report: HealthReport, now: float) -> None:
        """Apply one report."""
        voice = self._voice(report, now)
        if report.status is HealthStatus.SERVING and self.state is not NodeState.BLACKLISTED:
            voice.streak += 1 if voice.streak == 0 or now > voice.heard_at else 0
        else:
            voice.streak = 0
        voice.status = report.status
        voice.message = plain_text(report.message)
        voice.heard_at = now
        if report.weight not in (None, voice.weight):
            voice.weight = report.weight
            self._weigh()
        if report.load is not None:
            self.load.hear(report.load, now, self.mean_load(now))
        self.adopted_until = None
        self.carried = 0
        leaves = HealthStatus.SHUTTING_DOWN in {v.status for v in self.voices.values()}
        if leaves or report.status is HealthStatus.SERVING:
            self.announced = leaves
        self._judge(now, "no report")
        self.announced = leaves  # "not serving" after an announcement is no failure, and ends it

    def check(self, report: HealthReport, now: float) -> None:
        """Apply what a check found; any other status than serving means that it failed."""
        passed, message = report.status is HealthStatus.SERVING, plain_text(report.message)
        known = self.checks.get(report.source)
        if known is None or known.passed is not passed:
            self.checks[report.source] = Check(passed=passed, since=now, message=message)
        else:
            known.message = message
        self._judge_again(now)

    def expect(self, checkers: Collection[str], now: float) -> None:
        """Wait for the word of these checks, and forget those of all others."""
        gone = [source for source in self.checks if source not in checkers]
        for source in gone:
            del self.checks[source]
        for source in checkers:
            self.checks.setdefault(source, Check(since=now))
        if gone:
            self._judge_again(now)

    def lost(self, source: str, reason: str, now: float) -> None:
        """Forget what `source` said; it has lost the node, or has nothing to check of it."""
        mine = self._forget_voices(source)
        if self.checks.pop(source, None) is not None:
            self._judge_again(now)
        if mine:
            self._judge(now, plain_text(reason) or "connection closed")

    def drain(self, on: bool, now: float) -> None:
        """Let the operator start or end draining; ending overrules an announced shutdown, too."""
        self.operator_draining = on
        self.announced = self.announced and on
        self._begin_to_serve(now)

    def set_weight(self, weight: int | None) -> None:
        """Let the operator set a weight, which holds at once, or None to follow the node again."""
        self.operator_weight = weight
        if weight is not None:
            self.start.finish()

    def unused(self, source: str, now: float) -> None:
        """Forget what `source` said: the operator does without it, which blames no node."""
        mine = self._forget_voices(source)
        if not mine or self.state is NodeState.BLACKLISTED:
            return
        if self.voices or self.node.static or self._objection():
            self._judge(now, "")
        else:
            self._down(now, f"no report: {source} is no longer in use", blameless=True)

    def words(self, now: float) -> tuple[HealthWord, ...]:
        """Return the last word of every source, in the order in which they began to speak."""
        return words(self.voices, self.checks, now)

    def deadline(self) -> float | None:
        """Return when `advance` has something to do next, or None."""
        return min(self._deadlines(), default=None)

    def advance(self, now: float) -> None:
        """Let everything happen that was due until `now`, each at its own time."""
        while (due := self.deadline()) is not None and due <= now:
            self._expire(due)

    def excuse(self, now: float) -> None:
        """Go on as after our own restart: until now nobody could be heard."""
        if self.voices or self.adopted_until is not None:
            self.carried = self.reports if self.state is NodeState.PROBATION else 0
            self.voices.clear()
            self.adopted_until = now + self.settings.checks_timeout

    def make_static(self, node: Node, now: float) -> None:
        """Turn into a configured node: routable at once, without reports."""
        self.node = node
        self.agreed.heard = True
        self.configured_weight = node.weight
        self._weigh()
        self.failures = 0
        self.adopted_until = None
        self.carried = 0
        if self.state is NodeState.BLACKLISTED:
            self._enter(NodeState.DOWN, "", now)
        self._judge(now, "")

    def _weigh(self) -> None:
        """Let the node's word on its weight win over the configuration's."""
        said = announced_weight(self.voices.values())
        own = self.configured_weight if said is None else min(max(said, 0), MAX_WEIGHT)
        if own != self.node.weight:
            self.node = attrs.evolve(self.node, weight=own)

    # the rules

    def _judge(self, now: float, silence: str) -> None:
        """Enter the state that the voices ask for; `silence` explains having none."""
        if self.state is NodeState.BLACKLISTED:
            return
        voices = list(self.voices.values())
        if objection := self._objection():
            self._down(now, objection)
        elif self.node.static:
            self._judge_static(now)
        elif not voices:
            if self.adopted_until is None:
                self._down(now, silence)
        elif self.state is not NodeState.ROUTABLE:
            self._judge_rise(now, voices)

    def _judge_again(self, now: float) -> None:
        """Judge after a check changed; a node that is silent anyway keeps its reason."""
        if self.voices or self.node.static or self._objection():
            self._judge(now, "no report")

    def _objection(self) -> str:
        """Return why the node must not get traffic, "" if nobody says that."""
        for source, check in self.checks.items():
            if check.passed is False:
                return f"{source}: {check.message or 'failed'}"
        for voice in self.voices.values():
            if voice.status is HealthStatus.NOT_SERVING:
                return f"not serving: {voice.message}" if voice.message else "not serving"
        return ""

    def _awaited(self) -> str:
        """Return the checks that a node which is not routable has to wait for."""
        return ", ".join(source for source, check in self.checks.items() if check.passed is None)

    def _judge_static(self, now: float) -> None:
        if self.state is not NodeState.ROUTABLE and (awaited := self._awaited()):
            self._enter(NodeState.PROBATION, f"waiting for {awaited}", now)
        else:
            self._enter(NodeState.ROUTABLE, "configured", now)

    def _judge_rise(self, now: float, voices: list[Voice]) -> None:
        needed = self.settings.checks_before_routing
        if any(v.status is HealthStatus.SHUTTING_DOWN for v in voices):
            self._down(now, "shutting down")
        elif self.reports < needed:
            self._enter(NodeState.PROBATION, f"{self.reports} of {needed} reports in a row", now)
        elif awaited := self._awaited():
            self._enter(NodeState.PROBATION, f"waiting for {awaited}", now)
        else:
            self._enter(NodeState.ROUTABLE, "serving", now)

    def _down(self, now: float, reason: str, *, blameless: bool = False) -> None:
        blameless = blameless or self.operator_draining or self.announced or self.node.static
        fell = self.state is NodeState.ROUTABLE and not blameless
        for voice in self.voices.values():
            voice.streak = 0
        if fell:
            self.failures += 1
        limit = self.settings.black_list_after_fails
        if fell and 0 < limit <= self.failures:
            why = f"black-listed after {self.failures} failures, the last: {reason}"
            self._enter(NodeState.BLACKLISTED, why, now)
        else:
            self._enter(NodeState.DOWN, reason, now)

    def _enter(self, state: NodeState, reason: str, now: float) -> None:
        if state is not self.state:
            self.state = state
            self.since = now
            self.start.reset()
            self.load.reset()
            self._begin_to_serve(now)
        self.reason = reason

    def _begin_to_serve(self, now: float) -> None:
        """Begin the slow start of a node that may get flows, if it was without them before."""
        if self.state is NodeState.ROUTABLE and not (self.operator_draining or self.announced):
            slowly = self.settings.slow_start > 0 and self.others_warm(now)
            self.start.begin(now, slowly=slowly)

    # what happens by itself

    def _deadlines(self) -> Iterator[float]:
        settings = self.settings
        for voice in self.voices.values():
            yield voice.heard_at + settings.checks_timeout
        if self.adopted_until is not None:
            yield self.adopted_until
        if self.state is NodeState.BLACKLISTED:
            yield self._black_list_end()
        elif self._forgotten:
            yield self.since + settings.checks_timeout
        elif self.state is NodeState.ROUTABLE and self.failures:
            yield self.since + settings.black_list_expiry
        if (due := self.start.due(settings.slow_start)) is not None:
            yield due

    def _expire(self, at: float) -> None:
        """Do what is due at `at`; always removes at least one deadline."""
        settings = self.settings
        self.start.grow(at, settings.slow_start)
        if self.state is NodeState.BLACKLISTED and self._black_list_end() <= at:
            self._leave_black_list(at)
            return
        if self.state is NodeState.ROUTABLE and self.since + settings.black_list_expiry <= at:
            self.failures = 0
        stale = [k for k, v in self.voices.items() if v.heard_at + settings.checks_timeout <= at]
        for key in stale:
            del self.voices[key]
        seconds = f"{settings.checks_timeout:g} s"
        if self.adopted_until is not None and self.adopted_until <= at:
            self._end_adoption(at, f"no report within {seconds} after the balancer's start")
        elif stale or self._forgotten:
            self._judge(at, f"no report for {seconds}")

    @property
    def _forgotten(self) -> bool:
        """Whether it is on probation, must report, and does not."""
        return (
            self.state is NodeState.PROBATION
            and not self.voices
            and not self.node.static
            and self.adopted_until is None
        )

    def _black_list_end(self) -> float:
        """Return when the node may return; at once if a reload turned the black list off."""
        off = self.settings.black_list_after_fails < 0
        return self.since if off else self.since + self.settings.black_list_expiry

    def _leave_black_list(self, at: float) -> None:
        self.failures = 0
        needed = self.settings.checks_before_routing
        self._enter(NodeState.PROBATION, f"black list expired, {needed} reports needed", at)
        self._judge_again(at)

    def _end_adoption(self, at: float, reason: str) -> None:
        self.adopted_until = None
        self.carried = 0
        if self.state in (NodeState.ROUTABLE, NodeState.PROBATION) and not self.node.static:
            self._down(at, reason, blameless=True)

    # details

    def _voice(self, report: HealthReport, now: float) -> Voice:
        key = (report.source, report.service)
        if key not in self.voices:
            if len(self.voices) >= MAX_VOICES:
                del self.voices[min(self.voices, key=lambda k: self.voices[k].heard_at)]
            self.voices[key] = Voice(status=report.status, heard_at=now, streak=0)
            if self.carried and report.status is HealthStatus.SERVING:
                self.voices[key] = Voice(
                    status=report.status, heard_at=float("-inf"), streak=self.carried
                )
            self._weigh()  # who comes back may not announce what it did
        return self.voices[key]

    def _forget_voices(self, source: str) -> bool:
        """Drop the voices of a source; return whether there were any."""
        before = len(self.voices)
        self.voices = {key: voice for key, voice in self.voices.items() if key[0] != source}
        return len(self.voices) < before

    def _full_reason(self) -> str:
        notes = [self.reason, self.agreed.note(self.state)]
        if self.operator_draining:
            notes.append("drained by the operator")
        if self.announced and self.reason != "shutting down":
            notes.append("announced its shutdown")
        return "; ".join(note for note in notes if note)
