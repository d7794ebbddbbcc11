# SPDX-License-Identifier: Apache-2.0
"""Facts of this machine that programs are specialised for."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from pathlib import Path

from galelb.forwarder import HostView
from galelb.model import Interface

__all__ = ["cache_folder", "host_view", "kernel_hz", "machine_seed", "state_folder", "tick_shift"]

_CLOCK_MONOTONIC_COARSE = 6  # linux/time.h; Python has no name for it


def cache_folder() -> Path:
    """Return where things lie that can be made again; systemd may say where."""
    return Path(os.environ.get("CACHE_DIRECTORY", "/var/cache/galelb").partition(":")[0])


def state_folder() -> Path:
    """Return where things lie that outlive a boot; systemd may say where."""
    return Path(os.environ.get("STATE_DIRECTORY", "/var/lib/galelb").partition(":")[0])


def machine_seed(folder: Path) -> int:
    """Return this machine's secret seed of flow hashes, made once and kept in `folder`.

    It is compiled in, so a machine whose seed stays can load programs that it compiled before.
    Where nothing can be kept it is another one each time.
    """
    path = folder / "flow_seed"
    with contextlib.suppress(OSError, ValueError):
        if path.lstat().st_mode & 0o177077 == 0o100000:
            return int(path.read_text(), 16) & 0xFFFFFFFF
    seed = secrets.randbits(32)
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(f"{seed:08x}\n")
    return seed


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
