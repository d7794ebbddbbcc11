# SPDX-License-Identifier: Apache-2.0
"""A terminal that tells keys and changes of size at once."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from types import FrameType

__all__ = ["Terminal", "opened_terminal"]


class Terminal:
    """What wakes a waiting picture: keys, a new size, and whoever calls `wake`."""

    def __init__(self, keys: int | None, bell: int, ring: int) -> None:
        self._keys = keys
        self._bell = bell
        self._ring = ring

    def wake(self) -> None:
        """End `wait`; may be called from any thread."""
        with contextlib.suppress(BlockingIOError):  # then it rings already
            os.write(self._ring, b"\0")

    def wait(self, timeout: float) -> str:
        """Return keys that were pressed; nothing when the time is over or somebody woke us."""
        sources = [self._bell] if self._keys is None else [self._bell, self._keys]
        ready, _, _ = select.select(sources, [], [], max(0.0, timeout))
        if self._bell in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._bell, 4096)
        if self._keys is None or self._keys not in ready:
            return ""
        keys = os.read(self._keys, 64)
        if not keys:  # the terminal has gone
            self._keys = None
        return keys.decode("ascii", "replace")


@contextlib.contextmanager
def opened_terminal() -> Iterator[Terminal]:
    """Take keys as they are pressed; leaving gives the terminal back as it was.

    SIGTERM becomes KeyboardInterrupt, so that it does.
    """
    bell, ring = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, bell)
        stack.callback(os.close, ring)
        stack.enter_context(_handled(signal.SIGTERM, signal.default_int_handler))
        stack.enter_context(_handled(signal.SIGWINCH, _nothing))
        # The handler itself does nothing: its signal rings the bell.
        before = signal.set_wakeup_fd(ring, warn_on_full_buffer=False)
        stack.callback(signal.set_wakeup_fd, before)
        yield Terminal(stack.enter_context(_keys()), bell, ring)


@contextlib.contextmanager
def _keys() -> Iterator[int | None]:
    if not sys.stdin.isatty():
        yield None
        return
    keys = sys.stdin.fileno()
    before = termios.tcgetattr(keys)
    try:
        tty.setcbreak(keys)
        yield keys
    finally:
        termios.tcsetattr(keys, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _handled(number: signal.Signals, handler: object) -> Iterator[None]:
    before = signal.signal(number, handler)  # type: ignore[arg-type]
    try:
        yield
    finally:
        signal.signal(number, before)


def _nothing(number: int, frame: FrameType | None) -> None:
    del number, frame
