# SPDX-License-Identifier: Apache-2.0
"""Reads, sets and restores sysctls of the network namespace of the calling thread."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import structlog

from galelb.node.host_record import Sysctl

__all__ = ["read_sysctl", "restore_sysctls", "write_sysctls"]

log = structlog.get_logger(__name__)

_SYS = Path("/proc/sys")


def read_sysctl(name: str) -> str | None:
    """Return a value; None where this kernel has none of that name."""
    try:
        return (_SYS / name).read_text().strip()
    except OSError:
        return None


def write_sysctls(changes: Collection[Sysctl]) -> None:
    """Set values. Raises OSError."""
    for one in changes:
        (_SYS / one.name).write_text(one.after)
        log.info("sysctl_set", name=one.name, before=one.before, after=one.after)


def restore_sysctls(changes: Collection[Sysctl]) -> None:
    """Set the former values, except where somebody else has set another one meanwhile."""
    for one in changes:
        value = read_sysctl(one.name)
        if value == one.after:
            (_SYS / one.name).write_text(one.before)
            log.info("sysctl_restored", name=one.name, value=one.before)
        elif value is not None and value != one.before:
            log.warning("sysctl_left", name=one.name, value=value, ours=one.after)
