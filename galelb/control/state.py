# SPDX-License-Identifier: Apache-2.0
"""What a balancer remembers between two runs, beside the pins that it belongs to."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

import attrs

from galelb.errors import GaleError

__all__ = ["Attachment", "SavedState", "load_state", "save_state"]

_VERSION = 1
_FILE = "state.json"
_KINDS = {
    "health": list,
    "next_hops": dict,
    "flow_seed": int,
    "slots_pin": str,
    "flow_maps": list,
    "decisions": dict,
}


@attrs.frozen(kw_only=True)
class Attachment:
    """A program that we attached: what `galelb detach` must undo."""

    interface: str
    ifindex: int
    mode: str
    egress: bool = False
    offloads: dict[str, bool] = attrs.Factory(dict)
    """Offloads that were on before we turned them off."""
    reason: str = ""
    """Why it is not native XDP."""


@attrs.frozen(kw_only=True)
class SavedState:
    """Everything that a restart adopts and that no BPF map holds."""

    services: dict[str, int] = attrs.Factory(dict)
    nodes: dict[str, int] = attrs.Factory(dict)
    health: list[dict[str, Any]] = attrs.Factory(list)
    next_hops: dict[str, Any] = attrs.Factory(dict)
    attachments: tuple[Attachment, ...] = ()
    flow_seed: int = attrs.Factory(lambda: secrets.randbits(32))
    tables: dict[str, int] = attrs.Factory(dict)
    """Where each live lookup table lies in gale_slots, by its spec's digest."""
    slots_pin: str = ""
    """The gale_slots that `tables` speaks of."""
    flow_maps: list[dict[str, Any]] = attrs.Factory(list)
    """The maps that flows may be in, the newest first (galelb/datapath/flow_maps.py)."""
    decisions: dict[str, str] = attrs.Factory(dict)
    """What operators decided of nodes anywhere in the group (galelb/group/decisions.py)."""
    adopted: bool = False
    """Whether this state was read from disk, so that pins may hold flows."""


def load_state(directory: Path) -> SavedState:
    """Return the state saved in `directory`, or a fresh one.

    A state of another version or a damaged file is a GaleError: guessing would renumber
    nodes under live flows.
    """
    path = directory / _FILE
    try:
        return _read(json.loads(path.read_text()))
    except FileNotFoundError:
        return SavedState()
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise GaleError(
            f"{path}: cannot be used ({error}); go back to the version that wrote it, which breaks"
            " no connection, or run `galelb detach` to remove the old instance and start afresh"
        ) from error


def _read(data: dict[str, Any]) -> SavedState:
    if (version := data.pop("version")) != _VERSION:
        raise ValueError(f"it has version {version!r}, this galelb reads {_VERSION}")
    known = {field.name for field in attrs.fields(SavedState)} - {"adopted"}
    if unknown := sorted(data.keys() - known):
        raise ValueError(f"it has {', '.join(unknown)}, so a newer galelb wrote it")
    attachments = tuple(Attachment(**item) for item in data.pop("attachments"))
    for key in ("services", "nodes", "tables"):
        numbers = data.get(key, {})
        if not isinstance(numbers, dict) or not all(type(n) is int for n in numbers.values()):
            raise ValueError(f"{key} must map text to whole numbers")
    for key, kind in _KINDS.items():
        if key in data and type(data[key]) is not kind:
            raise ValueError(f"{key} must be a {kind.__name__}")
    if not 0 <= data.get("flow_seed", 0) < 1 << 32:
        raise ValueError("flow_seed must have 32 bits")
    return SavedState(**data, attachments=attachments, adopted=True)


def save_state(directory: Path, state: SavedState) -> None:
    """Replace the saved state atomically, so that a crash leaves the old or the new one."""
    data = attrs.asdict(state, recurse=False, filter=lambda field, _: field.name != "adopted")
    data["attachments"] = [attrs.asdict(one) for one in state.attachments]
    temporary = directory / f".{_FILE}.new"
    fd = os.open(temporary, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(json.dumps(data | {"version": _VERSION}))
    os.replace(temporary, directory / _FILE)  # noqa: PTH105 - says "atomic" to the reader
