# SPDX-License-Identifier: Apache-2.0
"""What the agent changed on its machine, on disk before it is done, so that a crash loses none."""

from __future__ import annotations

import json
import os
from ipaddress import ip_address
from pathlib import Path

import attrs
import structlog

from galelb.model import IPAddress

__all__ = ["HostRecord", "Sysctl", "load_record", "save_record"]

log = structlog.get_logger(__name__)


@attrs.frozen
class Sysctl:
    """A value of ours; `name` is a path below /proc/sys."""

    name: str
    before: str
    after: str


@attrs.frozen(kw_only=True)
class HostRecord:
    """The changes that are to be undone."""

    vips: tuple[IPAddress, ...] = ()
    """On lo."""
    sysctls: tuple[Sysctl, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.vips or self.sysctls)


def load_record(path: Path) -> HostRecord:
    """Return what an agent left; nothing when there is no file, or none that an agent wrote."""
    try:
        data = json.loads(path.read_text())
        return HostRecord(
            vips=tuple(ip_address(text) for text in data["vips"]),
            sysctls=tuple(Sysctl(**one) for one in data["sysctls"]),
        )
    except FileNotFoundError:
        return HostRecord()
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("host_record_unreadable", path=str(path), reason=str(error))
        return HostRecord()


def save_record(path: Path, record: HostRecord) -> None:
    """Write atomically, or remove the file when nothing is left to undo. Raises OSError."""
    if not record:
        path.unlink(missing_ok=True)
        return
    data = {
        "vips": [str(vip) for vip in record.vips],
        "sysctls": [attrs.asdict(one) for one in record.sysctls],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(data))
    temporary.replace(path)
