# SPDX-License-Identifier: Apache-2.0
"""What the agent changed on its machine, on disk before it is done, so that a crash loses none."""

from __future__ import annotations

import json
import os
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import attrs
import structlog
import trio

from galelb.model import IPAddress
from galelb.node.tunnels import End

__all__ = ["Book", "Decapsulation", "HostRecord", "Sysctl", "load_record", "save_record"]

log = structlog.get_logger(__name__)


@attrs.frozen
class Sysctl:
    """A value of ours; `name` is a path below /proc/sys."""

    name: str
    before: str
    after: str


@attrs.frozen(kw_only=True)
class Decapsulation:
    """The program that we attached to an interface."""

    interface: str
    ifindex: int
    program_id: int
    mode: str
    """XdpMode."""
    offloads: dict[str, bool] = attrs.Factory(dict)
    """What was on before we turned it off."""


@attrs.frozen(kw_only=True)
class HostRecord:
    """The changes that are to be undone."""

    vips: tuple[IPAddress, ...] = ()
    """On lo."""
    sysctls: tuple[Sysctl, ...] = ()
    decapsulations: tuple[Decapsulation, ...] = ()
    tunnels: tuple[End, ...] = ()
    """VIPs whose packets are taken out of tunnels."""

    def __bool__(self) -> bool:
        return bool(self.vips or self.sysctls or self.decapsulations or self.tunnels)


def load_record(path: Path) -> HostRecord:
    """Return what an agent left; nothing when there is no file, or none that an agent wrote."""
    try:
        return _record(json.loads(path.read_text()))
    except FileNotFoundError:
        return HostRecord()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("host_record_unreadable", path=str(path), reason=str(error))
        return HostRecord()


def _record(data: dict[str, Any]) -> HostRecord:
    tunnels = data.get("tunnels", ())
    return HostRecord(
        vips=tuple(ip_address(text) for text in data["vips"]),
        sysctls=tuple(Sysctl(**one) for one in data["sysctls"]),
        decapsulations=tuple(Decapsulation(**one) for one in data.get("decapsulations", ())),
        tunnels=tuple(End(ip_address(one["vip"]), int(one["port"])) for one in tunnels),
    )


def save_record(path: Path, record: HostRecord) -> None:
    """Write atomically, or remove the file when nothing is left to undo. Raises OSError."""
    if not record:
        path.unlink(missing_ok=True)
        return
    data = {
        "vips": [str(vip) for vip in record.vips],
        "sysctls": [attrs.asdict(one) for one in record.sysctls],
        "decapsulations": [attrs.asdict(one) for one in record.decapsulations],
        "tunnels": [{"vip": str(end.address), "port": end.port} for end in record.tunnels],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(data))
    temporary.replace(path)


class Book:
    """The record and its file, which always has what is about to be done."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.record = HostRecord()

    def open(self) -> None:
        """Read what an earlier agent left."""
        self.record = load_record(self._path)

    async def write(self, **changes: Any) -> None:
        """Change fields of the record. Raises OSError."""
        record = attrs.evolve(self.record, **changes)
        if record != self.record:
            await trio.to_thread.run_sync(save_record, self._path, record)
            self.record = record
