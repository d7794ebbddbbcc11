# SPDX-License-Identifier: Apache-2.0
"""Calls hooks one implementation at a time, so that a failure has a name and harms nobody else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import attrs
import structlog

__all__ = ["HookCaller", "Implementation"]

log = structlog.get_logger("galelb.plugins")

SLOW_S = 0.1
"""Hooks run in the thread that everything else waits for: one that takes longer is told."""
_MAY_TAKE_LONG = frozenset({"galelb_build_table"})
_LONGEST_TRACE = 200


@attrs.frozen
class Implementation:
    """One plugin's implementation of one hook."""

    plugin: str
    function: Callable[..., Any]
    arguments: tuple[str, ...]


class _Lookup(Protocol):
    def __call__(self, hook: str) -> Sequence[Implementation]: ...


class HookCaller:
    """Calls hooks by the rule of their kind; with `trace`, every call is logged."""

    def __init__(self, lookup: _Lookup, *, trace: bool = False) -> None:
        self._lookup = lookup
        self._trace = trace

    def answers(self, hook: str, facts: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        """Yield (plugin, answer) of every implementation that did not fail, in call order.

        Lazy: an implementation runs when its answer is asked for. A failure is logged with
        the plugin's name.
        """
        for implementation in self._lookup(hook):
            started = time.perf_counter()
            try:
                answer = implementation.function(
                    **{name: facts[name] for name in implementation.arguments}
                )
            except (Exception, SystemExit) as error:
                # A plugin may raise anything; the balancer must outlive all of it.
                log.exception(
                    "hook_failed", hook=hook, plugin=implementation.plugin, error=str(error)
                )
                continue
            seconds = time.perf_counter() - started
            if seconds > SLOW_S and hook not in _MAY_TAKE_LONG:
                log.warning(
                    "hook_slow", hook=hook, plugin=implementation.plugin, seconds=round(seconds, 3)
                )
            if self._trace:
                self._show(hook, implementation, facts, answer, seconds)
            yield implementation.plugin, answer

    def notify(self, hook: str, **facts: Any) -> None:
        """Call every implementation; never raises."""
        for _ in self.answers(hook, facts):
            pass

    def decide(self, hook: str, valid: Callable[[Any], bool], **facts: Any) -> Any | None:
        """Return the first answer that is not None; an invalid one is logged and passed over."""
        for plugin, answer in self.answers(hook, facts):
            if answer is None:
                continue
            if valid(answer):
                return answer
            log.error("hook_answer_invalid", hook=hook, plugin=plugin, answer=_short(answer))
        return None

    def collect(self, hook: str, valid: Callable[[Any], bool]) -> list[Any]:
        """Return all items of all answers; a plugin whose items are not valid is left out."""
        collected: list[Any] = []
        for plugin, answer in self.answers(hook, {}):
            try:
                items = list(answer or ())
            except Exception as error:
                # The answer may be a generator, which is the plugin's code as well.
                log.exception("hook_failed", hook=hook, plugin=plugin, error=str(error))
                continue
            if all(valid(item) for item in items):
                collected.extend(items)
            else:
                log.error("hook_answer_invalid", hook=hook, plugin=plugin, answer=_short(items))
        return collected

    @staticmethod
    def _show(
        hook: str, one: Implementation, facts: dict[str, Any], answer: Any, seconds: float
    ) -> None:
        shown = {name: _short(facts[name]) for name in one.arguments}
        log.info(
            "hook_called",
            hook=hook,
            plugin=one.plugin,
            arguments=shown,
            answer=_short(answer),
            duration_ms=round(seconds * 1000, 3),
        )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_TRACE else text[:_LONGEST_TRACE] + "..."
