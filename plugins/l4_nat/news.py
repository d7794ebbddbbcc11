# SPDX-License-Identifier: Apache-2.0
"""Which flows were made last, as programs note it in l4_nat_news (tables.h)."""

from __future__ import annotations

import numpy as np
from galelb_plugins.l4_nat.columns import Words

from galelb.forwarder import BpfMap

__all__ = ["News"]

_IPV6 = np.uint64(1 << 31)


class News:
    """Notes that were not read yet; not thread safe, but for `some`."""

    def __init__(self, table: BpfMap) -> None:
        self._notes: Words = np.frombuffer(table.mmap(), np.uint64, count=table.max_entries)
        self._kept = table.max_entries - 1
        self._read = int(self._notes[0])

    @property
    def some(self) -> bool:
        """Whether there are any."""
        return int(self._notes[0]) != self._read

    def take(self) -> dict[int, Words]:
        """Return hashes of the keys of new flows by IP version.

        Nothing when there were more than are kept: who looks at the table finds those.
        """
        made, read = int(self._notes[0]), self._read
        self._read = made
        if made - read > self._kept:
            return {}
        hashes = self._notes[1 + np.arange(read, made) % self._kept]
        six = hashes & _IPV6 != 0
        found = {4: hashes[~six], 6: hashes[six]}
        return {version: part for version, part in found.items() if len(part)}
