# SPDX-License-Identifier: Apache-2.0
"""bpf(2) as far as galelb needs it, by ctypes; failures are OSError, fds are close-on-exec."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import struct
from collections.abc import Iterator
from pathlib import Path

import attrs

__all__ = [
    "ENOTSUPP",
    "PROG_TYPE_SCHED_CLS",
    "PROG_TYPE_XDP",
    "LoadError",
    "MapInfo",
    "ProgramInfo",
    "bpf",
    "enable_stats",
    "map_create",
    "map_info",
    "obj_get",
    "obj_pin",
    "pointer",
    "prog_load",
    "program_by_id",
    "program_info",
]

_NUMBER_OF_BPF = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "s390x": 351, "ppc64le": 361}

MAP_CREATE = 0
PROG_LOAD = 5
OBJ_PIN = 6
OBJ_GET = 7
PROG_GET_FD_BY_ID = 13
OBJ_GET_INFO_BY_FD = 15
ENABLE_STATS = 32

ENOTSUPP = 524
"""The kernel's own "not supported", which errno.h does not know."""

PROG_TYPE_SCHED_CLS = 3
PROG_TYPE_XDP = 6

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def bpf(command: int, attributes: ctypes.Array[ctypes.c_char], path: str | None = None) -> int:
    """Make one bpf(2) call over an attribute buffer, which the kernel may write to.

    Raises OSError with the kernel's errno; `path` becomes its filename.
    """
    number = _NUMBER_OF_BPF.get(platform.machine(), 280)
    result = _libc.syscall(number, command, attributes, len(attributes))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), path)
    return int(result)


def pointer(buffer: ctypes.Array[ctypes.c_char] | None) -> int:
    """Return the address of a buffer, 0 for None; the caller keeps the buffer alive."""
    return 0 if buffer is None else ctypes.addressof(buffer)


def obj_get(path: Path | str) -> int:
    """Open a pinned map or program; the caller closes the fd."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    attributes = ctypes.create_string_buffer(struct.pack("QIIi", pointer(name), 0, 0, 0), 20)
    return bpf(OBJ_GET, attributes, str(path))


def obj_pin(fd: int, path: Path | str) -> None:
    """Pin a map or program; the folder must be on a bpffs."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    attributes = ctypes.create_string_buffer(struct.pack("QIIi", pointer(name), fd, 0, 0), 20)
    bpf(OBJ_PIN, attributes, str(path))


def map_create(
    kind: int, *, key_size: int, leaf_size: int, entries: int, flags: int, name: str
) -> int:
    """Make a map and return its fd, which the caller closes; the kernel cuts long names."""
    numbers = struct.pack("7I", kind, key_size, leaf_size, entries, flags, 0, 0)
    attributes = numbers + struct.pack("16s", name.encode()[:15])
    return bpf(MAP_CREATE, ctypes.create_string_buffer(attributes, 72))


@attrs.frozen(kw_only=True)
class MapInfo:
    """What the kernel says of a map."""

    type: int
    id: int
    key_size: int
    leaf_size: int
    max_entries: int
    flags: int


@attrs.frozen(kw_only=True)
class ProgramInfo:
    """What the kernel says of a program; instruction counts are BPF instructions."""

    type: int
    id: int
    tag: str
    name: str
    instructions: int
    verified_instructions: int
    run_time_ns: int
    run_count: int
    """0 unless statistics are on, see enable_stats."""


def _info(fd: int, size: int) -> bytes:
    data = ctypes.create_string_buffer(size)
    attributes = ctypes.create_string_buffer(struct.pack("IIQ", fd, size, pointer(data)), 16)
    bpf(OBJ_GET_INFO_BY_FD, attributes)
    return data.raw


def map_info(fd: int) -> MapInfo:
    """Describe an open map."""
    kind, number, key, leaf, entries, flags = struct.unpack_from("6I", _info(fd, 88))
    return MapInfo(
        type=kind, id=number, key_size=key, leaf_size=leaf, max_entries=entries, flags=flags
    )


def program_info(fd: int) -> ProgramInfo:
    """Describe an open program."""
    data = _info(fd, 232)
    kind, number, tag, _, translated = struct.unpack_from("II8sII", data)
    name = data[64:80].split(b"\0")[0].decode("ascii", "replace")
    run_time_ns, run_count, _, verified = struct.unpack_from("QQQI", data, 192)
    return ProgramInfo(
        type=kind,
        id=number,
        tag=tag.hex(),
        name=name,
        instructions=translated // 8,
        verified_instructions=verified,
        run_time_ns=run_time_ns,
        run_count=run_count,
    )


@contextlib.contextmanager
def program_by_id(number: int) -> Iterator[int]:
    """Open a loaded program for a while; needs CAP_SYS_ADMIN, ENOENT if it is gone."""
    fd = bpf(PROG_GET_FD_BY_ID, ctypes.create_string_buffer(struct.pack("III", number, 0, 0), 12))
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def enable_stats() -> Iterator[None]:
    """Count runs and run time of all programs for a while; costs some 20 ns per run."""
    fd = bpf(ENABLE_STATS, ctypes.create_string_buffer(struct.pack("I", 0), 4))
    try:
        yield
    finally:
        os.close(fd)


class LoadError(OSError):
    """The kernel refused a program; `log` is the verifier's log, perhaps empty."""

    def __init__(self, code: int, log: str) -> None:
        super().__init__(code, os.strerror(code))
        self.log = log


def prog_load(kind: int, code: bytes, *, name: str, flags: int = 0, attach_type: int = 0) -> int:
    """Load instructions and return the fd, which the caller closes; raises LoadError.

    The log is asked for only after a first refusal: it makes verifying slower.
    """
    text = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"Dual BSD/GPL")
    head = struct.pack("IIQQ", kind, len(code) // 8, pointer(text), pointer(licence))
    tail = struct.pack("16sII", name.encode()[:15], 0, attach_type)

    def load(log: ctypes.Array[ctypes.c_char] | None) -> int:
        size = 0 if log is None else len(log)
        verbose = struct.pack("IIQII", bool(size), size, pointer(log), 0, flags)
        return bpf(PROG_LOAD, ctypes.create_string_buffer(head + verbose + tail, 144))

    with contextlib.suppress(OSError):
        return load(None)
    log = ctypes.create_string_buffer(1 << 20)
    try:
        return load(log)
    except OSError as error:
        said = log.value.decode(errors="replace")
        raise LoadError(error.errno or 0, said) from None
