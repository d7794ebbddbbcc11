# SPDX-License-Identifier: Apache-2.0
"""Processes in the namespaces of a benchmark; they end with it, also when it is killed."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from galelb.datapath.sandbox import NsThread

__all__ = ["Process", "running"]

Process = subprocess.Popen[bytes]

_STOP_S = 20.0
_WITH_US = ("setpriv", "--pdeathsig", "TERM", "--")


@contextlib.contextmanager
def running(net: NsThread, argv: Sequence[str], log: Path) -> Iterator[Process]:
    """Run a command in a namespace until the block ends; what it prints is appended to `log`."""
    with log.open("ab") as output:
        process: Process = net.run(
            lambda: subprocess.Popen([*_WITH_US, *argv], stdout=output, stderr=output)
        )
    try:
        yield process
    finally:
        _stop(process)


def _stop(process: Process) -> None:
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
