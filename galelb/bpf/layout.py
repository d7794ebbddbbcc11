# SPDX-License-Identifier: Apache-2.0
"""What a map holds, as the compiler described it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

__all__ = ["MapLayout", "ProgramLayout"]


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
