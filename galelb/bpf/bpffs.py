# SPDX-License-Identifier: Apache-2.0
"""Finds or makes the bpffs folder that pins live in, so that a restart sees them again."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

from galelb.errors import EnvironmentProblem

__all__ = ["ensure_bpffs", "is_bpffs", "remove_bpffs"]

_CAP_SYS_ADMIN = 21
_BPF_FS_MAGIC = 0xCAFE4A11
_libc = ctypes.CDLL(None, use_errno=True)


def is_bpffs(path: Path) -> bool:
    """Return whether an existing path is on a bpffs."""
    buffer = ctypes.create_string_buffer(256)  # struct statfs is 120 bytes or less
    if _libc.statfs(os.fsencode(path), buffer) != 0:
        return False
    return int(struct.unpack_from("L", buffer)[0]) == _BPF_FS_MAGIC


def ensure_bpffs(path: Path) -> Path:
    """Return the path to use for pins; mounts a bpffs at `path` unless it is on one already.

    In a private mount namespace, as `ip netns exec` makes one, the mount is made in that of
    PID 1, where it outlives us, and the answer leads there through /proc; it holds for as long
    as this process lives. Blocks; call it before the daemon starts. Raises EnvironmentProblem
    with the command to run by hand.
    """
    path = path.absolute()
    if is_bpffs(path):
        return path
    if not _may_mount():
        raise _problem(path, "this process may not mount it; under systemd a .mount unit does")
    host = _host_process(path)
    seen = path if host is None else Path(f"/proc/{host}/root{path}")
    with _locked(seen, path):
        if not is_bpffs(seen):
            _mount(path, host)
    if not is_bpffs(seen):
        raise _problem(path, "the mount does not show up")
    return seen if host in (None, 1) else _kept(seen)


def remove_bpffs(path: Path) -> bool:
    """Unmount the bpffs that `ensure_bpffs` mounted at `path`; a folder on another one stays.

    Returns whether the folder may be removed now: without the right to mount, the mount is
    somebody else's and stays, as that of a .mount unit.
    """
    path = path.absolute()
    if not _may_mount():
        return not is_bpffs(path)
    host = _host_process(path)
    seen = path if host is None else Path(f"/proc/{host}/root{path}")
    if is_bpffs(seen) and not is_bpffs(seen.parent):
        _run(path, [*_inside(host), "umount", "--lazy", str(path)])
    return True


def _may_mount() -> bool:
    """Return whether this process has CAP_SYS_ADMIN."""
    text = Path("/proc/self/status").read_text()
    effective = next(line for line in text.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) >> _CAP_SYS_ADMIN & 1)


def _inside(host: int | None) -> list[str]:
    return ["nsenter", f"--mount=/proc/{host}/ns/mnt", "--"] if host is not None else []


def _kept(seen: Path) -> Path:
    """Return a way to a folder that does not depend on another process; its fd stays open."""
    fd = os.open(seen, os.O_PATH | os.O_DIRECTORY)
    return Path(f"/proc/{os.getpid()}/fd/{fd}")


def _host_process(path: Path) -> int | None:
    """Return a process in the mount namespace of PID 1 that we may enter; None if we are in it.

    PID 1 may have capabilities that root here has not. Then it is closed to us, and another
    process beside it is the door.
    """
    host = _first_mount("1")
    if host == _first_mount("self"):
        return None
    for process in (1, *_ancestors(), *_processes()):
        if _first_mount(str(process)) == host and _may_enter(process):
            return process
    raise _problem(path, "this mount namespace is private, and no process outside can be entered")


def _may_enter(process: int) -> bool:
    try:
        Path(f"/proc/{process}/ns/mnt").readlink()
    except OSError:
        return False
    return True


def _ancestors() -> Iterator[int]:
    process = os.getppid()
    while process > 1:
        yield process
        try:
            stat = Path(f"/proc/{process}/stat").read_text()
        except OSError:
            return
        process = int(stat.rpartition(")")[2].split()[1])


def _processes() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _first_mount(process: str) -> str:
    """Return what tells mount namespaces apart: the ids of mounts differ between them."""
    try:
        return Path(f"/proc/{process}/mountinfo").read_text().partition(" ")[0]
    except OSError:
        return ""


@contextlib.contextmanager
def _locked(seen: Path, path: Path) -> Iterator[None]:
    """Keep two starts from mounting over each other."""
    try:
        seen.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(seen.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _problem(path, f"{seen.parent}: {error.strerror}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _mount(path: Path, host: int | None) -> None:
    _run(path, [*_inside(host), "mkdir", "-p", str(path)])
    _run(path, [*_inside(host), "mount", "-t", "bpf", "-o", "mode=0700", "bpf", str(path)])


def _run(path: Path, command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _problem(path, str(error)) from None
    if done.returncode != 0:
        raise _problem(path, done.stderr.strip() or f"{command[0]} failed")


def _problem(path: Path, why: str) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"no bpffs at {path} ({why}): run as root, on the host:"
        f" mkdir -p {path} && mount -t bpf bpf {path}"
    )
