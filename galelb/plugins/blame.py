# SPDX-License-Identifier: Apache-2.0
"""Puts a plugin's name on whatever its code raises."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import trio

from galelb.errors import GaleError, PluginError

if TYPE_CHECKING:
    from galelb.component import Component

__all__ = ["blamed", "run_blamed"]


@contextlib.contextmanager
def blamed(plugin: str, doing: str) -> Iterator[None]:
    """Turn an exception of a plugin's code into a PluginError; errors of ours pass unchanged."""
    try:
        yield
    except Exception as error:
        reason = _unexpected(error)
        if reason is None:
            raise
        text = f"{doing} failed: {type(reason).__name__}: {reason}"
        raise PluginError(plugin, text) from error


async def run_blamed(
    plugin: str,
    component: Component,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a plugin's component; one that fails ends the balancer with the plugin's name."""
    noted = _Noted(task_status)
    with blamed(plugin, type(component).__name__):
        await component.run(task_status=noted)
    if not noted.done:
        text = f"{type(component).__name__} ended without calling task_status.started()"
        raise PluginError(plugin, text)


class _Noted:
    """A task status that remembers having been called."""

    def __init__(self, status: trio.TaskStatus[None]) -> None:
        self._status = status
        self.done = False

    def started(self, value: None = None) -> None:
        self.done = True
        self._status.started(value)


def _unexpected(error: BaseException) -> BaseException | None:
    """Return the first exception, in groups too, that is no error of ours."""
    if isinstance(error, BaseExceptionGroup):
        found = (_unexpected(one) for one in error.exceptions)
        return next((one for one in found if one is not None), None)
    return None if isinstance(error, GaleError) else error
