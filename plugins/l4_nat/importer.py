# SPDX-License-Identifier: Apache-2.0
"""Has the program l4_nat_import take in flows: whole arrays of them (see import.h)."""

from __future__ import annotations

import struct
import threading

import numpy as np
import numpy.typing as npt

from galelb.errors import BpfError
from galelb.forwarder import DataPath

__all__ = [
    "ADDED",
    "BUSY",
    "FLOWS",
    "FLOW_TYPE",
    "FRESH_CLIENT",
    "FRESH_NODE",
    "KNOWN",
    "UPDATED",
    "Importer",
]

PROGRAM = "l4_nat_import"
FLOWS = 4096
"""Flows that one call of the program takes in."""
ADDED, BUSY, UPDATED, KNOWN = 0, 12, 254, 255
"""Results; all others are reasons (galelb.abi.Reason) why a flow was refused. BUSY: try again."""
FRESH_CLIENT, FRESH_NODE = 1, 2

FLOW_TYPE = np.dtype(
    [
        ("client", np.uint32, (4,)),
        ("slice", np.uint32),
        ("client_port", np.uint16),
        ("port", np.uint16),
        ("service", np.uint16),
        ("family", np.uint8),
        ("state", np.uint8),
        ("back_state", np.uint8),
        ("fresh", np.uint8),
        ("age", np.uint16),
        ("back_age", np.uint16),
        ("result", np.uint16),
        ("pad", np.uint32),
    ]
)
"""A `struct l4_nat_import_flow`."""

_HEAD = struct.Struct("=2I")
_ROOM = 64
"""Bytes of a test run's data at least."""
_turn = threading.Lock()
"""The map that flows are handed over in is one, whoever has it open."""


class Importer:
    """Keeps the map mapped in which flows are handed to the program."""

    def __init__(self, datapath: DataPath) -> None:
        self._datapath = datapath
        table = datapath.maps["l4_nat_imports"]
        self._flows = np.frombuffer(table.mmap(), FLOW_TYPE, count=table.max_entries)

    def take_in(self, flows: npt.NDArray[np.void]) -> npt.NDArray[np.uint16]:
        """Take in flows, an array of FLOW_TYPE, and return the result of each; blocks.

        Raises BpfError; some of them may have been taken in then.
        """
        results = np.empty(len(flows), np.uint16)
        for first in range(0, len(flows), len(self._flows)):
            some = flows[first : first + len(self._flows)]
            results[first : first + len(some)] = self._some(some)
        return results

    def _some(self, flows: npt.NDArray[np.void]) -> npt.NDArray[np.uint16]:
        count = len(flows)
        with _turn:
            self._flows[:count] = flows
            self._run(count)
            results: npt.NDArray[np.uint16] = self._flows["result"][:count].copy()
        return results

    def _run(self, count: int) -> None:
        """Run the program until it has looked at so many flows: at some of them each time."""
        done, data = 0, _HEAD.pack(count, 0).ljust(_ROOM, b"\0")
        while done < count:
            before = done
            verdict, data = self._datapath.run_program(PROGRAM, data)
            _, done = _HEAD.unpack_from(data)
            if verdict != 0 or done <= before:
                raise BpfError(f"{PROGRAM} answered {verdict} after {done} of {count} flows")
