# SPDX-License-Identifier: Apache-2.0
"""Tells from the pipeline's counters how a packet was counted, quickly: no value is decoded."""

from __future__ import annotations

import errno
import os

from galelb.abi import Reason
from galelb.bpf.mapcalls import lookup_batches
from galelb.bpf.maps import PinnedMap, possible_cpus

__all__ = ["Counters", "name_of"]

COUNTER = 16
"""Bytes of a struct gale_counter."""
BATCH = 4096


class Counters:
    """Snapshots of gale_service_stats of one runner, compared as they lie in memory."""

    def __init__(self, stats: PinnedMap) -> None:
        self._stats = stats
        self._element = COUNTER * possible_cpus()
        self._before = b""

    def start(self) -> None:
        """Remember how everything stands."""
        self._before = self._read()

    def changed(self) -> list[int]:
        """Return what was counted since `start`: service ids times len(Reason) plus reason."""
        return list(self.increments())

    def increments(self) -> dict[int, int]:
        """Return packets since `start` by service id times len(Reason) plus reason."""
        after = self._read()
        difference = int.from_bytes(self._before, "little") ^ int.from_bytes(after, "little")
        found = {}
        while difference:
            number = ((difference & -difference).bit_length() - 1) // (8 * self._element)
            found[number] = self._packets(after, number) - self._packets(self._before, number)
            end = 8 * self._element * (number + 1)
            difference = difference >> end << end
        return found

    def _packets(self, memory: bytes, number: int) -> int:
        at = number * self._element
        cpus = range(at, at + self._element, COUNTER)
        return sum(int.from_bytes(memory[cpu : cpu + 8], "little") for cpu in cpus)

    def _read(self) -> bytes:
        """Return all elements; an array gives them in the order of their indices."""
        try:
            batches = lookup_batches(self._stats.fileno(), 4, self._element, BATCH)
            return b"".join(bytes(leaves) for _, leaves in batches)
        except OSError as error:
            code = error.errno or errno.EIO
            raise AssertionError(f"cannot read the counters: {os.strerror(code)}") from None


def name_of(number: int) -> str:
    """Return a number of `changed` for people."""
    service, reason = divmod(number, len(Reason))
    return f"{Reason(reason).name} of service {service}"
