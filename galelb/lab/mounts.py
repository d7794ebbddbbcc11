# SPDX-License-Identifier: Apache-2.0
"""Finds and removes the mounts below a folder, in this mount namespace and in that of PID 1."""

from __future__ import annotations

import os
from pathlib import Path

from galelb.lab.topology import run_tool

__all__ = ["mounts_below", "unmount_below"]

_PID1 = ["nsenter", "--mount=/proc/1/ns/mnt", "--"]


def mounts_below(directory: Path, process: str = "self") -> list[Path]:
    """Return the mount points below a folder as a process sees them, deepest first."""
    lines = Path(f"/proc/{process}/mountinfo").read_text().splitlines()
    points = (Path(_unescape(line.split()[4])) for line in lines)
    return sorted((point for point in points if directory in point.parents), reverse=True)


def unmount_below(directory: Path) -> None:
    """Unmount everything below a folder; a bpffs takes its pins along."""
    for point in mounts_below(directory):
        run_tool(["umount", str(point)])
    # The pins of a lab that was started inside a private mount namespace live in PID 1's.
    for point in mounts_below(directory, "1"):
        run_tool([*_PID1, "umount", str(point)])


def _unescape(text: str) -> str:
    return os.fsdecode(text.encode().decode("unicode_escape").encode("latin-1"))
