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
        """Bring entries up to date; return how many were written. Raises MapError.

        An entry that is not named is forgotten, since its owner may have deleted it meanwhile.
        """
        written = self._written.get(bpf_map.name, {})
        named = [(repr(key), key, leaf) for key, leaf in entries]
        changed = [(key, leaf) for text, key, leaf in named if written.get(text) != leaf]
        if changed:
            bpf_map.update(changed)
        self._written[bpf_map.name] = {text: leaf for text, _, leaf in named}
        return len(changed)
