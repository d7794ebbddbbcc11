# SPDX-License-Identifier: Apache-2.0
"""What a map holds, as the compiler described it."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Any

import attrs

__all__ = ["MapLayout", "MapType", "ProgramLayout"]


class MapType(enum.IntEnum):
    """The kernel's numbers of the map types in use (enum bpf_map_type)."""

    HASH = 1
    ARRAY = 2
    PROG_ARRAY = 3
    PERCPU_HASH = 5
    PERCPU_ARRAY = 6
    LRU_HASH = 9
    LRU_PERCPU_HASH = 10
    LPM_TRIE = 11
    RINGBUF = 27


@attrs.frozen(kw_only=True)
class MapLayout:
    """A pinned map: sizes in bytes, key and leaf as bcc describes C types."""

    name: str
    type: int
    key: Any
    leaf: Any
    key_size: int
    leaf_size: int
    max_entries: int
    flags: int
    pin: Path


@attrs.frozen(kw_only=True)
class ProgramLayout:
    """A pinned program; instruction counts are BPF instructions."""

    function: str
    pin: Path
    tag: str
    instructions: int
    verified_instructions: int
