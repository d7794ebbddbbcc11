# SPDX-License-Identifier: Apache-2.0
"""Turns Ctrl-C, SIGTERM and SIGHUP into an orderly end, wherever the lab is at that moment."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Awaitable, Callable, Iterator
from types import FrameType
from typing import TypeVar

import trio

from galelb.errors import GaleError

__all__ = ["run_interruptibly", "terminable"]

T = TypeVar("T")
_ENDING = (signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Raise SystemExit on SIGTERM and SIGHUP, so that `finally` blocks run."""
    before = {number: signal.signal(number, _exit) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_interruptibly(run: Callable[[], Awaitable[T]]) -> T:
    """Run an async function to its end or to a signal.

    Raises what it raised, without the groups that nurseries make of it; KeyboardInterrupt or
    SystemExit after a signal.
    """
    try:
        return trio.run(_until_signal, run)
    except BaseExceptionGroup as group:
        raise _essence(group) from None


async def _until_signal(run: Callable[[], Awaitable[T]]) -> T:
    caught: list[int] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(_watch, caught, nursery.cancel_scope)
        result = await run()
        nursery.cancel_scope.cancel()
        return result
    raise SystemExit(128 + caught[0])


async def _watch(
    caught: list[int],
    scope: trio.CancelScope,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    with trio.open_signal_receiver(*_ENDING) as numbers:
        task_status.started()
        async for number in numbers:
            caught.append(number)
            scope.cancel()


def _essence(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the one error that tells the story, or the group when there are several."""
    for kinds in ((KeyboardInterrupt, SystemExit), GaleError):
        if found := group.subgroup(kinds):
            return _leaf(found)
    return _leaf(group) if len(group.exceptions) == 1 else group


def _leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _exit(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
