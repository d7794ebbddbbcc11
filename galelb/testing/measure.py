# SPDX-License-Identifier: Apache-2.0
"""Measures a loaded program: its instructions, and how much of the stack they use."""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path

import attrs

from galelb.bpf.syscalls import OBJ_GET_INFO_BY_FD, bpf, obj_get, pointer, program_info

__all__ = ["STACK", "Size", "measure"]

STACK = 512
"""What the kernel gives a program, and what its verifier lets it use."""
_INFO = 40
_FRAME = 10  # the register that points to the end of the stack
_LOADS_AND_STORES = {1, 2, 3}
_CLASS, _REGISTER_OFFSET = 0x07, 1
_MOVE, _ADD = 0xBF, 0x07


@attrs.frozen(kw_only=True)
class Size:
    """Instructions as loaded, how many the verifier walked, and bytes of stack."""

    instructions: int
    verified_instructions: int
    stack: int

    def __str__(self) -> str:
        return (
            f"{self.instructions} instructions ({self.verified_instructions} verified),"
            f" {self.stack} of {STACK} bytes of stack"
        )


def measure(pin: Path) -> Size:
    """Measure a pinned program; needs root. Raises OSError."""
    fd = obj_get(pin)
    try:
        info = program_info(fd)
        return Size(
            instructions=info.instructions,
            verified_instructions=info.verified_instructions,
            stack=_stack(_code(fd, info.instructions)),
        )
    finally:
        os.close(fd)


def _code(fd: int, count: int) -> bytes:
    """Return the instructions as the kernel has them after verifying."""
    text = ctypes.create_string_buffer(8 * count)
    # struct bpf_prog_info: type, id, tag; lengths of both forms; where the two shall go
    head = struct.pack("II8sIIQQ", 0, 0, b"", 0, len(text), 0, pointer(text))
    info = ctypes.create_string_buffer(head, _INFO)
    attributes = ctypes.create_string_buffer(struct.pack("IIQ", fd, _INFO, pointer(info)), 16)
    bpf(OBJ_GET_INFO_BY_FD, attributes)
    return text.raw


def _stack(code: bytes) -> int:
    """Return how far below its end the stack is touched, or a pointer into it is made."""
    deepest, pointers = 0, {_FRAME}
    for at in range(0, len(code), 8):
        op, registers, offset, value = struct.unpack_from("BBhi", code, at)
        target, source = registers & 15, registers >> 4
        kind = op & _CLASS
        if kind in _LOADS_AND_STORES:
            base = source if kind == _REGISTER_OFFSET else target
            if base == _FRAME:
                deepest = max(deepest, -offset)
        if op == _MOVE and source == _FRAME:
            pointers.add(target)
        elif op == _ADD and target in pointers:
            deepest = max(deepest, -value)
            pointers.discard(target)
        elif target != _FRAME:
            pointers.discard(target)
    return deepest
