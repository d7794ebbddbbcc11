# SPDX-License-Identifier: Apache-2.0
"""Writes only what changed into BPF maps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from galelb.forwarder import BpfMap

__all__ = ["MapWriter"]


class MapWriter:
    """Remembers what it wrote to each map, so that an unchanged entry costs no system call.

    Only for maps that nobody else writes. Not thread safe: one worker at a time.
    """

    def __init__(self) -> None:
        self._written: dict[str, dict[str, Any]] = {}

    def forget(self) -> None:
        """Write everything again from now on, because the maps may be others."""
        self._written.clear()

    def write(self, bpf_map: BpfMap, entries: Iterable[tuple[Any, Any]]) -> int:
        """Bring entries up to date; return how many were written. Raises MapError."""
        written = self._written.setdefault(bpf_map.name, {})
        changed = [(key, leaf) for key, leaf in entries if written.get(repr(key)) != leaf]
        if changed:
            bpf_map.update(changed)
            written.update((repr(key), leaf) for key, leaf in changed)
        return len(changed)
