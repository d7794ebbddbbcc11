# SPDX-License-Identifier: Apache-2.0
"""Loads compiled programs over pinned maps, which are made when they are not there."""

from __future__ import annotations

import base64
import contextlib
import errno
import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from galelb.bpf import syscalls
from galelb.bpf.bpffs import is_bpffs
from galelb.bpf.layout import MapLayout, MapType
from galelb.errors import EnvironmentProblem, MapError

__all__ = ["Loader", "make_pin_folder", "pin"]

_ATTACH_TYPE_XDP = 37
_XDP_HAS_FRAGS = 32
_TYPES = {"xdp": syscalls.PROG_TYPE_XDP, "tc": syscalls.PROG_TYPE_SCHED_CLS}


def make_pin_folder(pin_dir: Path) -> None:
    """Make the folder for pins. Raises EnvironmentProblem where it cannot hold any."""
    try:
        pin_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentProblem(f"cannot make {pin_dir} for pins: {error.strerror}") from None
    if not is_bpffs(pin_dir):
        raise EnvironmentProblem(f"the folder for pins is not on a bpffs: {pin_dir}")


class Loader:
    """Holds the fds of maps and programs until it is left; usable from several threads."""

    def __init__(self) -> None:
        self._maps: dict[Path, int] = {}
        self._programs: list[int] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Loader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for fd in [*self._maps.values(), *self._programs]:
            os.close(fd)

    def map_fd(self, layout: MapLayout) -> int:
        """Open or make a map. Raises MapError, EnvironmentProblem."""
        with self._lock:
            fd = self._maps.get(layout.pin)
            if fd is None:
                fd = self._maps[layout.pin] = _open_or_make(layout)
            return fd

    def load(
        self, name: str, kind: str, program: Mapping[str, Any], maps: Mapping[str, int], frags: bool
    ) -> int:
        """Load a program and return its fd, which stays ours. Raises syscalls.LoadError."""
        code = bytearray(base64.b64decode(program["code"]))
        for at, map_name in program["maps"].items():
            code[int(at) + 4 : int(at) + 8] = maps[map_name].to_bytes(4, sys.byteorder)
        wanted = frags and kind == "xdp"
        fd = syscalls.prog_load(
            _TYPES[kind],
            bytes(code),
            name=name,
            flags=_XDP_HAS_FRAGS if wanted else 0,
            attach_type=_ATTACH_TYPE_XDP if wanted else 0,
        )
        with self._lock:
            self._programs.append(fd)
        return fd


def pin(fd: int, path: Path) -> dict[str, Any]:
    """Pin a program, in place of an older pin of that name, and describe it."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    try:
        syscalls.obj_pin(fd, path)
    except OSError as error:
        raise EnvironmentProblem(f"cannot pin {path}: {error.strerror}") from None
    info = syscalls.program_info(fd)
    return {
        "instructions": info.instructions,
        "verified_instructions": info.verified_instructions,
        "tag": info.tag,
    }


def _open_or_make(layout: MapLayout) -> int:
    try:
        return _checked(syscalls.obj_get(layout.pin), layout)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise MapError(layout.name, "open", f"{layout.pin}: {error.strerror}") from None
    try:
        fd = syscalls.map_create(
            layout.type,
            key_size=layout.key_size,
            leaf_size=layout.leaf_size,
            entries=layout.max_entries,
            flags=layout.flags,
            name=layout.name,
        )
    except OSError as error:
        raise _refused(layout, error) from None
    try:
        syscalls.obj_pin(fd, layout.pin)
    except OSError as error:
        os.close(fd)
        raise EnvironmentProblem(f"cannot pin {layout.pin}: {error.strerror}") from None
    return fd


def _checked(fd: int, layout: MapLayout) -> int:
    """Return the fd of a map that is as the programs think; else programs would be refused."""
    info = syscalls.map_info(fd)
    found = (info.type, info.key_size, info.leaf_size, info.max_entries)
    if found != (layout.type, layout.key_size, layout.leaf_size, layout.max_entries):
        os.close(fd)
        problem = f"{layout.pin} has another shape: remove it and restart"
        raise MapError(layout.name, "open", problem)
    return fd


def _refused(layout: MapLayout, error: OSError) -> Exception:
    kind = MapType(layout.type).name.lower()
    if error.errno == errno.ENOMEM:
        return EnvironmentProblem(f"not enough memory for the maps ({layout.name}, {kind})")
    if error.errno == errno.EPERM:
        return EnvironmentProblem("the kernel refuses BPF to this user: run as root")
    wanted = f"{kind} of {layout.max_entries} entries, flags {layout.flags:#x}"
    return MapError(layout.name, "make", f"the kernel refuses a {wanted}: {error.strerror}")
