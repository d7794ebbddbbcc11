# SPDX-License-Identifier: Apache-2.0
"""One bite of the sweep: the program l4_nat_sweep, its input and its answer (see sweep.h)."""

from __future__ import annotations

import enum
import struct

import attrs

from galelb.errors import BpfError
from galelb.forwarder import DataPath

__all__ = ["RUN", "Swept", "What", "current_tick", "sweep"]

PROGRAM = "l4_nat_sweep"
RUN = 64
"""Entries that one run of the program looks at."""

_FORM = struct.Struct("=16I")
_NOWHERE = 0xFFFFFFFF


class What(enum.IntEnum):
    """What to sweep."""

    FLOWS = 0
    PORTS = 1


@attrs.frozen
class Swept:
    """What some runs saw; counts are of entries, `used` is split into the four that follow it.

    `next` is the first entry not looked at; `done` says that there is none.
    """

    next: int
    tick: int
    seen: int
    used: int
    removed: int
    busy: int
    established: int
    half_open: int
    closing: int
    udp: int
    quarantined: int
    done: bool


def sweep(datapath: DataPath, what: What, version: int, first: int, runs: int) -> Swept:
    """Remove what has expired among `runs` times RUN entries from `first`; blocks.

    Raises BpfError.
    """
    data = _FORM.pack(what, version, first, *[0] * 13)
    verdict, answer = datapath.run_program(PROGRAM, data, repeat=runs)
    if verdict != 0:
        raise BpfError(f"{PROGRAM} of IPv{version} {what.name.lower()} {first} answered {verdict}")
    numbers = _FORM.unpack_from(answer)[2:13]
    return Swept(*[*numbers, numbers[0] - first < runs * RUN])


def current_tick(datapath: DataPath) -> int:
    """Return the tick that ages of flows are compared with; blocks."""
    return sweep(datapath, What.FLOWS, 4, _NOWHERE, 1).tick
