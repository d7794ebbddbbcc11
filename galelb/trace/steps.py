# SPDX-License-Identifier: Apache-2.0
"""What a program noted of one packet: the map gale_trace, read and reset."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import attrs

from galelb.abi import TraceStep
from galelb.bpf.maps import PinnedMap

__all__ = ["RawStep", "Recorder", "Recording"]

_MAP = "gale_trace"


@attrs.frozen
class RawStep:
    """A step with its five values, as bpf/trace.h gives them."""

    what: TraceStep
    value: tuple[int, ...]


@attrs.frozen
class Recording:
    """The steps of one packet in their order; `lost` more were too many to keep.

    `packet`: the `struct gale_packet` that was parsed, as the codec of maps gives it.
    """

    steps: Sequence[RawStep]
    packet: dict[str, Any]
    lost: int = 0

    def last(self, what: TraceStep) -> RawStep | None:
        """Return the last step of a kind."""
        return next((step for step in reversed(self.steps) if step.what is what), None)


class Recorder:
    """Reads the record that programs write to; one packet at a time, by whoever runs them."""

    def __init__(self, trace: PinnedMap) -> None:
        self._codec = trace.records
        self._memory = trace.mmap()

    def start(self) -> None:
        """Forget the packet before; random numbers go on."""
        struct.pack_into("=I", self._memory, 0, 0)

    def read(self) -> Recording:
        """Return what was noted since `start`."""
        record = self._codec.decode(self._memory[: self._codec.size])
        count, slots = record["count"], record["steps"]
        steps = [
            RawStep(TraceStep(one["what"]), tuple(one["value"]))
            for one in slots[: min(count, len(slots))]
        ]
        return Recording(steps, record["packet"], max(0, count - len(slots)))

    def close(self) -> None:
        """Let go of the record."""
        self._memory.close()
