# SPDX-License-Identifier: Apache-2.0
"""ring: lookup tables by a consistent CRC-32 ring with virtual nodes."""

from __future__ import annotations

from galelb.hooks import hookimpl
from galelb.sources import Scheduler


@hookimpl
def galelb_register_schedulers() -> list[type[Scheduler]]:
    """Register the scheduler."""
    from galelb_plugins.ring.plugin import Ring

    return [Ring]
