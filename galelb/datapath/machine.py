# SPDX-License-Identifier: Apache-2.0
"""What this machine keeps for all its instances, and where."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

__all__ = ["cache_folder", "machine_seed", "state_folder"]


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
        stat = path.lstat()
        if stat.st_mode & 0o177077 == 0o100000 and stat.st_uid == os.geteuid():
            return int(path.read_text(), 16) & 0xFFFFFFFF
    seed = secrets.randbits(32)
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(f"{seed:08x}\n")
    return seed
