# SPDX-License-Identifier: Apache-2.0
"""Checks a plugin's hooks before they are registered: names, arguments, the marker."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from galelb.hooks import PROJECT, HookSpecs
from galelb.plugins.loading import Candidate
from galelb.suggest import nearest

__all__ = ["hook_arguments", "hook_names", "verify"]

_MARK = f"{PROJECT}_impl"
_PREFIX = f"{PROJECT}_"


def hook_names() -> list[str]:
    """Return the names of all hooks in the order of their specification."""
    return [name for name in vars(HookSpecs) if name.startswith(_PREFIX)]


def hook_arguments(hook: str) -> list[str]:
    """Return the names of a hook's arguments."""
    return list(inspect.signature(getattr(HookSpecs, hook)).parameters)[1:]


def verify(candidate: Candidate) -> None:
    """Raise PluginError for a misspelt hook, an unknown argument or a forgotten marker."""
    for name, function, marks in _functions(candidate.plugin):
        if marks is None:
            if name in hook_names():
                raise candidate.failure(f"{name} lacks the decorator @galelb.hooks.hookimpl")
            continue
        hook = marks.get("specname") or name
        if hook not in hook_names():
            raise candidate.failure(f'unknown hook "{hook}"{nearest(hook, hook_names())}')
        if marks.get("wrapper") or marks.get("hookwrapper"):
            raise candidate.failure(f"{hook}: hook wrappers are not supported")
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise candidate.failure(f"{hook}: hooks are not async; what waits is a component")
        _verify_arguments(candidate, hook, function)


def _functions(plugin: object) -> Iterator[tuple[str, Any, dict[str, Any] | None]]:
    """Yield (name, function, marks of hookimpl) of everything that could be a hook."""
    for name in dir(plugin):
        if name.startswith("__"):
            continue
        # Look without running properties, which are not hooks.
        if isinstance(inspect.getattr_static(plugin, name, None), property):
            continue
        function = getattr(plugin, name, None)
        if inspect.isroutine(function):
            marks = getattr(function, _MARK, None)
            yield name, function, marks if isinstance(marks, dict) else None


def _verify_arguments(candidate: Candidate, hook: str, function: Any) -> None:
    allowed = hook_arguments(hook)
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD:
            raise candidate.failure(f"{hook}: name the arguments, without * and defaults")
        if parameter.name not in allowed:
            hint = nearest(parameter.name, allowed)
            may = ", ".join(allowed) or "none"
            raise candidate.failure(
                f'{hook}: unknown argument "{parameter.name}"{hint}; allowed: {may}'
            )
