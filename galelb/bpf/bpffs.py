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

__all__ = ["ensure_bpffs", "is_bpffs"]

_BPF_FS_MAGIC = 0xCAFE4A11
_PID1_MOUNTS = "/proc/1/ns/mnt"
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
    PID 1, where it outlives us, and the answer leads there through /proc/1/root. Blocks; call
    it before the daemon starts. Raises EnvironmentProblem with the command to run by hand.
    """
    path = path.absolute()
    if is_bpffs(path):
        return path
    private = _in_private_namespace(path)
    seen = Path(f"/proc/1/root{path}") if private else path
    with _locked(seen, path):
        if not is_bpffs(seen):
            _mount(path, private=private)
    if not is_bpffs(seen):
        raise _problem(path, "the mount does not show up")
    return seen


def _in_private_namespace(path: Path) -> bool:
    try:
        return Path("/proc/self/ns/mnt").readlink() != Path(_PID1_MOUNTS).readlink()
    except PermissionError:
        # PID 1 may have capabilities that root here has not; then its namespace's link is
        # closed to us, but not its mounts, whose ids differ between namespaces.
        return _first_mount("self") != _first_mount("1")
    except OSError as error:
        raise _problem(path, f"{_PID1_MOUNTS}: {error.strerror}") from None


def _first_mount(process: str) -> str:
    return Path(f"/proc/{process}/mountinfo").read_text().partition(" ")[0]


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


def _mount(path: Path, *, private: bool) -> None:
    enter = ["nsenter", f"--mount={_PID1_MOUNTS}", "--"] if private else []
    _run(path, [*enter, "mkdir", "-p", str(path)])
    _run(path, [*enter, "mount", "-t", "bpf", "-o", "mode=0700", "bpf", str(path)])


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
