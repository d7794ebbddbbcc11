# SPDX-License-Identifier: Apache-2.0
"""Starts and ends the processes of a lab; a process is known by its id and start time."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Iterable
from pathlib import Path

import attrs

from galelb.errors import LabError
from galelb.lab.topology import NETNS_DIR

__all__ = ["Process", "in_namespaces", "is_alive", "kill", "spawn", "tail", "this_process"]

_EXIT_TIMEOUT_S = 10.0


@attrs.frozen(kw_only=True)
class Process:
    """A process that survives its parent; the start time tells it from a later one."""

    kind: str
    pid: int
    start: int
    """Clock ticks since boot."""


def spawn(kind: str, argv: list[str], log: Path) -> Process:
    """Start a process in a session of its own; all that it prints is appended to `log`."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=actions, setsid=True)
    start = _start_time(pid)
    if start is None:
        raise LabError(f"{kind}: ended at once; see {log}")
    return Process(kind=kind, pid=pid, start=start)


def this_process() -> Process:
    """Return the calling process."""
    pid = os.getpid()
    return Process(kind="lab", pid=pid, start=_start_time(pid) or 0)


def is_alive(process: Process) -> bool:
    """Whether exactly this process runs."""
    return _start_time(process.pid) == process.start


def kill(processes: Iterable[Process]) -> None:
    """Kill (-9) those that still run and return once they are gone.

    Never hits another process that got the same id: the signal goes through a handle that
    was opened before the start time was compared.
    """
    handles = [(process, fd) for process in processes if (fd := _kill(process)) is not None]
    try:
        for process, fd in handles:
            if not _ends(fd):
                raise LabError(f"{process.kind}: process {process.pid} does not end")
            _reap(process.pid)
    finally:
        for _, fd in handles:
            os.close(fd)


def _ends(handle: int) -> bool:
    """Wait for the end of a process; select() would refuse handles above 1023."""
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(_EXIT_TIMEOUT_S * 1000))


def in_namespaces(names: Iterable[str]) -> list[Process]:
    """Return every process inside these network namespaces."""
    wanted = {_inode(NETNS_DIR / name) for name in names} - {None}
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        pid = int(path.name)
        start = _start_time(pid)
        if start is not None and _inode(path / "ns/net") in wanted:
            found.append(Process(kind="stray", pid=pid, start=start))
    return found


def tail(path: Path, lines: int = 12) -> str:
    """Return the last lines of a log; empty when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 16384))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def _kill(process: Process) -> int | None:
    try:
        fd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    if is_alive(process):
        signal.pidfd_send_signal(fd, signal.SIGKILL)
        return fd
    os.close(fd)
    _reap(process.pid)
    return None


def _reap(pid: int) -> None:
    # Only our own children leave a zombie that we must collect.
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _start_time(pid: int) -> int | None:
    """Return when a process started; None when it does not exist or is a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the name in parentheses and may hold anything.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
