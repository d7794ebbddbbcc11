# SPDX-License-Identifier: Apache-2.0
"""Lets the group's components run without trio: they read the clock of whoever is at work."""

import contextlib
from unittest import mock

import trio

from galelb.group import addresses, desk, member

_MODULES = (addresses, desk, member)


class Clock:
    """The clock of the balancer that is at work, in seconds."""

    now = 0.0


class Bell:
    """Stands for trio.Event: notes that it was set, for a simulation that asks."""

    def __init__(self):
        self.rung = False

    def set(self):
        self.rung = True

    def answer(self):
        """Return whether it was set since the last call."""
        rung, self.rung = self.rung, False
        return rung


class _Trio:
    Event = Bell

    def current_time(self):
        return Clock.now

    def __getattr__(self, name):
        return getattr(trio, name)


class _Silence:
    def __getattr__(self, level):
        return lambda *_, **__: None


@contextlib.contextmanager
def virtual_time():
    """Have the group's components read `Clock`, and log nothing, until the end of the block."""
    with contextlib.ExitStack() as stack:
        for module in _MODULES:
            stack.enter_context(mock.patch.object(module, "trio", _Trio()))
            if hasattr(module, "log"):
                stack.enter_context(mock.patch.object(module, "log", _Silence()))
        yield
