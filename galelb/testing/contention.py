# SPDX-License-Identifier: Apache-2.0
"""Many threads running programs at the same time, on several CPUs, inside a test's namespace."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Sequence

from galelb.testing.kernel import Sandbox

__all__ = ["run_together"]

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def run_together(sandbox: Sandbox, works: Sequence[Callable[[], None]]) -> None:
    """Run each function in a thread of its own in the sandbox's namespace, from one start line.

    BPF_PROG_TEST_RUN releases the GIL, so programs do run at the same time. Returns when all
    are done; the first exception is raised then.
    """
    gate = threading.Barrier(len(works))
    problems: list[BaseException] = []

    def work(function: Callable[[], None]) -> None:
        try:
            _enter(sandbox.net.path)
            gate.wait()
            function()
        except BaseException as error:
            gate.abort()
            problems.append(error)

    threads = [threading.Thread(target=work, args=(function,)) for function in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]


def _enter(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        if _libc.setns(fd, _CLONE_NEWNET) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
    finally:
        os.close(fd)
