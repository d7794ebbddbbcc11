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
_UNTOUCHED = 0xFFFF

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

_HEAD = struct.Struct("=4I")
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
            self._flows["result"][:count] = _UNTOUCHED
            head = _HEAD.pack(count, 0, 0, 0)
            verdict, _ = self._datapath.run_program(PROGRAM, head.ljust(64, b"\0"), repeat=count)
            results: npt.NDArray[np.uint16] = self._flows["result"][:count].copy()
        if verdict != 0 or (results == _UNTOUCHED).any():
            raise BpfError(f"{PROGRAM} answered {verdict} and took in some of {count} flows only")
        return results
