# SPDX-License-Identifier: Apache-2.0
"""Attaches XDP programs to interfaces, and never touches a program that is not ours."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from collections.abc import Collection, Iterator
from pathlib import Path

import attrs

from galelb.bpf import libbpf, syscalls
from galelb.errors import AttachError
from galelb.model import XdpMode

__all__ = ["XdpState", "attach_xdp", "detach_xdp", "pinned_programs", "program_id", "query_xdp"]

OUR_PREFIX = "gale"
"""How the names of our programs (C functions) begin; nobody else's program is replaced."""

_PROGRAM_PINS = "prog-*"
_SKB_MODE = 1 << 1
_DRV_MODE = 1 << 2
_IF_NOEXIST = 1 << 0
_REPLACE = 1 << 4
_FLAGS = {XdpMode.NATIVE: _DRV_MODE, XdpMode.GENERIC: _SKB_MODE}
_IP_LINK_NAMES: dict[XdpMode | None, str] = {
    XdpMode.NATIVE: "xdpdrv",
    XdpMode.GENERIC: "xdpgeneric",
}
_ATTACHED_MODES = {1: XdpMode.NATIVE, 2: XdpMode.GENERIC}


class _AttachOptions(ctypes.Structure):
    """struct bpf_xdp_attach_opts of libbpf 1."""

    _fields_ = (("sz", ctypes.c_size_t), ("old_prog_fd", ctypes.c_int), ("pad", ctypes.c_int))


class _QueryOptions(ctypes.Structure):
    """The first version of struct bpf_xdp_query_opts, which every libbpf 1 takes."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("prog_id", ctypes.c_uint32),
        ("drv_prog_id", ctypes.c_uint32),
        ("hw_prog_id", ctypes.c_uint32),
        ("skb_prog_id", ctypes.c_uint32),
        ("attach_mode", ctypes.c_uint8),
        ("pad", ctypes.c_uint8 * 7),
    )


@attrs.frozen
class XdpState:
    """What is attached to an interface; `ours`: the program's name begins with "gale"."""

    program_id: int
    mode: XdpMode | None
    """None: in hardware, or several at once."""
    name: str
    ours: bool


def query_xdp(ifindex: int, *, pins: Path | None = None) -> XdpState | None:
    """Return what is attached to an interface of the calling thread's network namespace.

    To open a program by its id takes CAP_SYS_ADMIN; without it those pinned in the folder `pins`
    are known all the same, and one whose name we may not read counts as foreign.

    Raises AttachError when the interface cannot be asked.
    """
    options = _QueryOptions(sz=ctypes.sizeof(_QueryOptions))
    result = libbpf.library().bpf_xdp_query(ifindex, 0, ctypes.byref(options))
    if result < 0:
        raise AttachError(str(ifindex), "query", os.strerror(-result), code=-result)
    ids = (options.prog_id, options.drv_prog_id, options.skb_prog_id, options.hw_prog_id)
    number = next((i for i in ids if i), 0)
    if not number:
        return None
    name = _name(number, pins)
    mode = _ATTACHED_MODES.get(options.attach_mode)
    return XdpState(number, mode, name, name.startswith(OUR_PREFIX))


def _name(number: int, pins: Path | None) -> str:
    try:
        with _program(number, pins) as fd:
            return syscalls.program_info(fd).name
    except OSError:
        return ""  # gone meanwhile, or not for us to see


@contextlib.contextmanager
def _program(number: int, pins: Path | None) -> Iterator[int]:
    """Open a loaded program, by its pin where that is the only way. Raises OSError."""
    with contextlib.ExitStack() as stack:
        try:
            fd = stack.enter_context(syscalls.program_by_id(number))
        except PermissionError:
            pin = _pin_of(number, pins)
            if pin is None:
                raise
            fd = syscalls.obj_get(pin)
            stack.callback(os.close, fd)
        yield fd


def _pin_of(number: int, pins: Path | None) -> Path | None:
    for pin in pins.glob(_PROGRAM_PINS) if pins is not None else ():
        with contextlib.suppress(OSError):
            if program_id(pin) == number:
                return pin
    return None


def program_id(pin: Path) -> int:
    """Return the kernel's id of a pinned program; raises OSError."""
    fd = syscalls.obj_get(pin)
    try:
        return syscalls.program_info(fd).id
    finally:
        os.close(fd)


def pinned_programs(folder: Path) -> frozenset[int]:
    """Return the kernel's ids of all programs pinned in a folder; none when there is no folder."""
    found = set()
    for pin in folder.glob(_PROGRAM_PINS):
        with contextlib.suppress(OSError):
            found.add(program_id(pin))
    return frozenset(found)


def attach_xdp(
    ifindex: int,
    name: str,
    program: int | Path,
    mode: XdpMode,
    *,
    replace_fd: int | None = None,
    only: Collection[int] | None = None,
) -> None:
    """Attach a program (fd or pin) in native or generic mode.

    A program of ours in the same mode is replaced atomically; with `replace_fd` only if it is
    that one. `only` narrows "ours" to these program ids. Ours in the other mode is detached
    first, since the kernel allows only one. Programs pinned beside `program` are ours too.
    Raises AttachError: `code` is EEXIST for a foreign program, EOPNOTSUPP where the driver has
    no native XDP (fall back to generic then).
    """
    pins = program.parent if isinstance(program, Path) else None
    current = _ours(ifindex, name, mode, only, pins)
    with _opened(program, name, mode) as fd:
        if current is None:
            _attach(ifindex, name, mode, fd, _IF_NOEXIST, None)
        elif replace_fd is not None:
            _attach(ifindex, name, mode, fd, _REPLACE, replace_fd)
        else:
            with _current(current, name, mode, pins) as old:
                _attach(ifindex, name, mode, fd, _REPLACE, old)


def detach_xdp(
    ifindex: int, name: str, *, only: Collection[int] | None = None, pins: Path | None = None
) -> bool:
    """Detach a program of ours and return whether there was one; foreign ones stay.

    `only` narrows "ours" to these program ids; `pins` as for `query_xdp`. Raises AttachError.
    """
    current = query_xdp(ifindex, pins=pins)
    if current is None or not current.ours:
        return False
    if only is not None and current.program_id not in only:
        return False
    mode = current.mode or XdpMode.NATIVE
    with _current(current, name, mode, pins) as old:
        _attach(ifindex, name, mode, -1, _REPLACE, old)
    return True


def _ours(
    ifindex: int, name: str, mode: XdpMode, only: Collection[int] | None, pins: Path | None
) -> XdpState | None:
    """Return our program in this mode; detaches ours of the other, refuses somebody else's."""
    current = query_xdp(ifindex, pins=pins)
    if current is not None and (
        not current.ours or (only is not None and current.program_id not in only)
    ):
        raise _foreign(name, mode, current)
    if current is not None and current.mode is not mode:
        detach_xdp(ifindex, name, pins=pins)
        return None
    return current


@contextlib.contextmanager
def _current(state: XdpState, name: str, mode: XdpMode, pins: Path | None) -> Iterator[int]:
    try:
        with _program(state.program_id, pins) as fd:
            yield fd
    except OSError as error:
        why = f"{error.strerror}: it was replaced meanwhile, try again"
        raise AttachError(name, mode.value, why, code=error.errno or 0) from None


def _attach(ifindex: int, name: str, mode: XdpMode, fd: int, flags: int, old: int | None) -> None:
    options = _AttachOptions(sz=ctypes.sizeof(_AttachOptions), old_prog_fd=old or 0)
    given = ctypes.byref(options) if old is not None else None
    call = libbpf.library().bpf_xdp_attach
    call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_uint32, ctypes.c_void_p)
    with libbpf.messages() as said:
        result = call(ifindex, fd, flags | _FLAGS[mode], given)
    if result < 0:
        raise _failed(name, mode, -result, said)


def _failed(name: str, mode: XdpMode, code: int, said: list[str]) -> AttachError:
    why = "; ".join([os.strerror(code), *said])
    if code in (errno.EEXIST, errno.EBUSY):
        why = f"another program was attached meanwhile; see: ip link show dev {name}"
    elif code in (errno.EOPNOTSUPP, syscalls.ENOTSUPP) and mode is XdpMode.NATIVE:
        why = "its driver has no native XDP: use generic mode"
    elif code in (errno.ERANGE, errno.EINVAL) and mode is XdpMode.NATIVE:
        why += f"; if its MTU is the reason: ip link set dev {name} mtu 1500, or load with frags"
    elif code == errno.ENODEV:
        why = "there is no such interface in this network namespace"
    return AttachError(name, mode.value, why, code=code)


def _foreign(name: str, mode: XdpMode, current: XdpState) -> AttachError:
    how = _IP_LINK_NAMES.get(current.mode, "xdp")
    # With few rights we cannot tell our own from others once their pins are gone.
    own = "" if current.name else "; if galelb left it and its bpffs was unmounted: galelb detach"
    return AttachError(
        name,
        mode.value,
        f"XDP program {current.name or '(no name)'} (id {current.program_id}) of somebody else"
        f" is attached; to remove it: ip link set dev {name} {how} off{own}",
        code=errno.EEXIST,
    )


@contextlib.contextmanager
def _opened(program: int | Path, name: str, mode: XdpMode) -> Iterator[int]:
    if isinstance(program, int):
        yield program
        return
    try:
        fd = syscalls.obj_get(program)
    except OSError as error:
        why = f"cannot open the program {program}: {error.strerror}"
        raise AttachError(name, mode.value, why, code=error.errno or 0) from None
    try:
        yield fd
    finally:
        os.close(fd)
