# SPDX-License-Identifier: Apache-2.0
"""One bite of the sweep: the program l4_nat_sweep, its input and its answer (see sweep.h)."""

from __future__ import annotations

import struct

import attrs

from galelb.errors import BpfError
from galelb.forwarder import DataPath

__all__ = ["Swept", "current_tick", "sweep"]

PROGRAM = "l4_nat_sweep"
_FORM = struct.Struct("=10I")
_SIZE = 64
OK = 2  # XDP_PASS


@attrs.frozen
class Swept:
    """What one run saw; `next` is the first bucket that was not looked at, 0 = the end."""

    tick: int
    next: int
    opening: int
    established: int
    closing: int
    udp: int
    removed: int


def sweep(datapath: DataPath, version: int, first: int, count: int) -> Swept:
    """Remove what has expired in `count` buckets from `first` of one family; blocks.

    Raises BpfError.
    """
    data = _FORM.pack(version, first, count, *[0] * 7).ljust(_SIZE, b"\0")
    verdict, answer = datapath.run_program(PROGRAM, data)
    if verdict != OK:
        raise BpfError(f"{PROGRAM} of IPv{version} from bucket {first} returned {verdict}")
    return Swept(*_FORM.unpack_from(answer)[3:])


def current_tick(datapath: DataPath) -> int:
    """Return the tick that ages of flows are compared with; blocks."""
    return sweep(datapath, 4, 0, 0).tick
