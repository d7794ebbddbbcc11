# SPDX-License-Identifier: Apache-2.0
"""What the tests of a contract play on: compiled programs, their models, conversations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, ClassVar

import attrs
import pytest

from galelb.abi import Reason
from galelb.bpf.pipeline import Context
from galelb.forwarder import Forwarder
from galelb.model import Service
from galelb.testing.cases import EVERY_KIND, Play
from galelb.testing.differential import step
from galelb.testing.dissect import describe
from galelb.testing.kernel import Sandbox
from galelb.testing.model import ForwarderModel, ReferenceModel
from galelb.testing.runner import Outcome, PacketRunner, Verdict
from galelb.testing.services import Runners, make_services
from galelb.testing.world import PUBLIC, build_world

__all__ = ["CONTEXTS", "JUMBO", "NODES", "Case", "Stage", "broken", "cases", "of_kinds"]

CONTEXTS: tuple[Context, ...] = ("xdp", "tc")
TABLE_SIZE = 65_537
NODES = 10
JUMBO = 9000
SENT = (Verdict.TX, Verdict.REDIRECT)


@attrs.frozen(kw_only=True)
class Case:
    """One row of a table: how the packet is made, and what came before it."""

    name: str
    packet: Callable[[Play], bytes]
    given: Callable[[Play], object] | None = None
    kinds: tuple[str, ...] = EVERY_KIND
    contexts: tuple[str, ...] = CONTEXTS
    ingress: str = PUBLIC
    reason: Reason = Reason.FORWARDED

    def __str__(self) -> str:
        return self.name.replace(" ", "_")


def cases(rows: Sequence[Case]) -> Callable[[Any], Any]:
    """Give a test of a contract its table: it is run for every row, kind and context."""

    def mark(function: Any) -> Any:
        function.rows = tuple(rows)
        return function

    return mark


def of_kinds(*kinds: str) -> Callable[[Any], Any]:
    """Run a test of a contract for these kinds only, as far as the forwarder has them."""

    def mark(function: Any) -> Any:
        function.kinds = kinds
        return function

    return mark


def broken(rule: str, data: bytes, ingress: str, outcome: Outcome, *why: str) -> None:
    """Fail with the rule that is broken and the packet that shows it."""
    lines = [
        rule,
        f"  given on {ingress}: {describe(data)}",
        f"  became: {outcome}",
        *(f"  {one}" for one in why),
        f"  frame: {data.hex()}",
    ]
    pytest.fail("\n".join(lines), pytrace=False)


class Stage:
    """Base of the contract's parts: makes runners once per class, and gives them back whole."""

    forwarder: ClassVar[type[Forwarder]]
    """The forwarder under test. One with settings: override `make_forwarder`, too."""
    model: ClassVar[type[ForwarderModel]]
    """What it does, in plain Python. One with settings: override `make_model`, too."""
    target_offset: ClassVar[int] = 0
    """For a forwarder that changes ports: how much higher those of the nodes are."""
    packets: ClassVar[int] = 2500
    """Random and mutated packets in each context."""

    _stack: ClassVar[ExitStack]
    _runners: ClassVar[Runners]
    _models: ClassVar[dict[int, ReferenceModel]]
    _used: ClassVar[list[PacketRunner]]

    def make_forwarder(self) -> Forwarder:
        """Return the forwarder to test."""
        return self.forwarder(self.forwarder.Options())

    def make_model(self) -> ForwarderModel:
        """Return a model of it; a new one for every runner."""
        return self.model()

    @classmethod
    def setup_class(cls) -> None:
        """Begin without runners; an override calls this one."""
        cls._stack = ExitStack()
        cls._runners = Runners(cls._stack)
        cls._models, cls._used = {}, []

    @classmethod
    def teardown_class(cls) -> None:
        """Remove everything; an override calls this one."""
        cls._stack.close()

    def teardown_method(self) -> None:
        """Undo what the test changed about nodes and next hops."""
        while self._used:
            self._used.pop().restore()

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run tests with `context`, `kind`, `case` in their arguments for all that there are."""
        rows: tuple[Case, ...] = getattr(metafunc.function, "rows", ())
        kinds: tuple[str, ...] = getattr(metafunc.function, "kinds", EVERY_KIND)
        names = [n for n in ("context", "kind", "case") if n in metafunc.fixturenames]
        wanted = [
            (context, kind, case)
            for case in rows or (None,)
            for context in self.contexts
            for kind in (case.kinds if case else kinds)
            if kind in self.services and (case is None or context in case.contexts)
        ]
        chosen = {
            tuple(dict(zip(("context", "kind", "case"), one, strict=True))[n] for n in names): None
            for one in wanted
        }
        if "tc_kind" in metafunc.fixturenames:
            metafunc.parametrize("tc_kind", self._kinds(kinds) if "tc" in self.contexts else [])
        if names:
            ids = ["-".join(str(value) for value in one) for one in chosen]
            metafunc.parametrize(names, list(chosen), ids=ids)

    def _kinds(self, wanted: tuple[str, ...]) -> list[str]:
        return [kind for kind in wanted if kind in self.services]

    @property
    def contexts(self) -> tuple[Context, ...]:
        """The contexts that the forwarder supports."""
        return CONTEXTS if self.forwarder.supports_tc else CONTEXTS[:1]

    @property
    def services(self) -> dict[str, Service]:
        """The services that it can have, by kind."""
        offset, ipv6 = self.target_offset, self.forwarder.supports_ipv6
        return make_services(self.forwarder.name, target_offset=offset, ipv6=ipv6)

    def runner(
        self,
        context: Context,
        name: str = "usual",
        *,
        turned: bool = False,
        **world: Any,
    ) -> PacketRunner:
        """Return a runner; another name is another one. `turned`: services in reverse order."""

        def make(sandbox: Sandbox) -> PacketRunner:
            services = list(self.services.values())
            order = services[::-1] if turned else services
            made = build_world(sandbox, **world)
            forwarder = self.make_forwarder()
            return PacketRunner(
                sandbox, made, order, forwarder, context=context, table_size=TABLE_SIZE
            )

        runner = self._runners.get((context, name), make)
        self._used.append(runner)
        return runner

    def crowd(self, context: Context) -> PacketRunner:
        """Return the runner with many nodes, where little ages: models know no time."""
        return self.runner(context, "crowd", nodes=NODES, calm=True)

    def jumbo(self) -> PacketRunner:
        """Return another instance, at a large MTU; its services came in another order."""
        return self.runner("xdp", "jumbo", turned=True, nodes=NODES, mtu=JUMBO)

    def start(self, context: Context, kind: str, *, local: bool = False) -> Play:
        """Begin a conversation with a service of that kind."""
        return Play.start(self.runner(context), self.services[kind], local=local)

    def model_of(self, runner: PacketRunner) -> ReferenceModel:
        """Return the model that has seen all that `send` ran on this runner."""
        if id(runner) not in self._models:
            parts = {self.forwarder.name: self.make_model()}
            self._models[id(runner)] = ReferenceModel(runner, parts)
        return self._models[id(runner)]

    def send(self, play: Play, data: bytes, rule: str, ingress: str = PUBLIC) -> Outcome:
        """Run a frame, which must become what the model says; `rule` is told when it does not."""
        _, outcome, problems = step(self.model_of(play.runner), data, ingress, play.send)
        if problems:
            broken(rule, data, ingress, outcome, *problems)
        return outcome

    def demand(
        self, play: Play, data: bytes, rule: str, reason: Reason, ingress: str = PUBLIC
    ) -> Outcome:
        """The same, and it must be counted so; what is forwarded must go to a node."""
        outcome = self.send(play, data, rule, ingress)
        if outcome.reason is not reason:
            broken(rule, data, ingress, outcome, f"must be counted as {reason.name}")
        goes = reason in (Reason.FORWARDED, Reason.FRAGMENT_FOLLOWED, Reason.ICMP_TRANSLATED)
        if goes and (outcome.verdict not in SENT or not outcome.node):
            broken(rule, data, ingress, outcome, "must be sent to a node")
        return outcome
