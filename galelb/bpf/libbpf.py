# SPDX-License-Identifier: Apache-2.0
"""The system's libbpf by ctypes, its messages caught instead of printed."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import threading
from collections.abc import Iterator

from galelb.errors import EnvironmentProblem

__all__ = ["library", "messages"]

_MESSAGE_BYTES = 512
# A va_list argument is a pointer in the calling conventions of x86_64 and arm64.
_PRINT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
_libc = ctypes.CDLL(None)
_libc.vsnprintf.argtypes = (
    ctypes.c_char_p,
    ctypes.c_size_t,
    ctypes.c_char_p,
    ctypes.c_void_p,
)
_said = threading.local()


def _print(level: int, form: bytes, arguments: int) -> int:
    del level
    lines: list[str] | None = getattr(_said, "lines", None)
    if lines is not None:
        text = ctypes.create_string_buffer(_MESSAGE_BYTES)
        _libc.vsnprintf(text, _MESSAGE_BYTES, form, arguments)
        lines.append(text.value.decode(errors="replace").removeprefix("libbpf: ").strip())
    return 0


_CALLBACK = _PRINT(_print)  # libbpf keeps the pointer: it must live as long as the process


@functools.cache
def library() -> ctypes.CDLL:
    """Return libbpf.so.1; raises EnvironmentProblem where it is missing."""
    try:
        found = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError:
        raise EnvironmentProblem(
            "libbpf.so.1 is missing: install libbpf1 (it comes with python3-bpfcc)"
        ) from None
    found.libbpf_set_print.restype = ctypes.c_void_p
    found.libbpf_set_print(_CALLBACK)
    return found


@contextlib.contextmanager
def messages() -> Iterator[list[str]]:
    """Collect what libbpf says in this thread."""
    _said.lines = []
    try:
        yield _said.lines
    finally:
        _said.lines = None
