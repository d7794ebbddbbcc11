# SPDX-License-Identifier: Apache-2.0
"""Facts of this machine that programs are specialised for."""

from __future__ import annotations

import time
from pathlib import Path

from galelb.forwarder import HostView
from galelb.model import Interface

__all__ = ["host_view", "kernel_hz", "tick_shift"]

_CLOCK_MONOTONIC_COARSE = 6  # linux/time.h; Python has no name for it


def kernel_hz() -> int:
    """Return CONFIG_HZ: the coarse clock advances once per jiffy (kernel/time/timekeeping.c)."""
    return round(1 / time.clock_getres(_CLOCK_MONOTONIC_COARSE))


def tick_shift(hz: int) -> int:
    """Return the shift that makes about a second of jiffies (0.85 s to 1.28 s for usual HZ)."""
    return min(range(5, 12), key=lambda shift: abs((1 << shift) - hz))


def _ip_local_port_range() -> tuple[int, int]:
    low, high = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    return int(low), int(high)


def host_view(private: Interface, public: Interface, flow_seed: int) -> HostView:
    """Return this machine's view, read from the current network namespace."""
    hz = kernel_hz()
    return HostView(
        private=private,
        public=public,
        ip_local_port_range=_ip_local_port_range(),
        tick_shift=tick_shift(hz),
        hz=hz,
        flow_seed=flow_seed,
    )
