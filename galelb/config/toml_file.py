# SPDX-License-Identifier: Apache-2.0
"""Reads a TOML file; whatever is wrong with it is a ConfigError that says where."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import attrs
import tomli

from galelb.config.toml_lines import KeyPath, key_lines, line_of
from galelb.errors import ConfigError

__all__ = ["TomlFile", "find_config", "parse_toml", "read_toml"]

SYSTEM_FOLDER = Path("/etc/galelb")
_MAX_BYTES = 1024 * 1024
_MAX_DEPTH = 32


@attrs.frozen
class TomlFile:
    """What a file says, and on which line it says it."""

    path: Path
    data: dict[str, Any]
    lines: dict[KeyPath, int] = attrs.field(repr=False, factory=dict)

    def line(self, path: KeyPath) -> int:
        """Return the line of a key, or of the table it belongs into."""
        return line_of(self.lines, path)


def find_config(name: str, explicit: Path | None = None) -> Path:
    """Return the file to read: the explicit one, else `name` here, else in /etc/galelb.

    Raises ConfigError when there is none; an explicit one is not looked at.
    """
    if explicit is not None:
        return explicit
    places = [Path(name), SYSTEM_FOLDER / name]
    for place in places:
        if place.exists():
            return place
    raise ConfigError(
        [f"no {name} in {Path.cwd()} or {SYSTEM_FOLDER}: write one, or name it with --config FILE"]
    )


def read_toml(path: Path) -> TomlFile:
    """Return the content of a file. Blocks on the disk. Raises ConfigError."""
    return parse_toml(path, _decode(path, _read(path)))


def parse_toml(path: Path, text: str) -> TomlFile:
    """Return what a text says that is, or might be, the content of `path`. Raises ConfigError."""
    try:
        data = tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        place = f"{path}:{error.lineno}:{error.colno}"
        raise ConfigError([f"{place}: not valid TOML: {error.msg}"]) from None
    except RecursionError:
        raise ConfigError([f"{path}: nested too deeply"]) from None
    if _too_deep(data):
        raise ConfigError([f"{path}: nested more than {_MAX_DEPTH} levels deep"])
    return TomlFile(path, data, key_lines(text))


def _too_deep(data: dict[str, Any]) -> bool:
    """Whether containers nest too deeply; without recursion, since that is the danger."""
    level: list[Any] = [data]
    for _ in range(_MAX_DEPTH):
        inner: list[Any] = []
        for item in level:
            inner.extend(item.values() if isinstance(item, dict) else item)
        level = [item for item in inner if isinstance(item, dict | list)]
    return bool(level)


def _read(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise ConfigError([f"{path}: is a folder, not a file: name the file in it"])
        if not stat.S_ISREG(mode):
            raise ConfigError([f"{path}: is not a regular file"])
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise ConfigError([_unreadable(path, error)]) from error
    if len(content) > _MAX_BYTES:
        raise ConfigError([f"{path}: longer than {_MAX_BYTES} bytes: is this the right file?"])
    return content


def _unreadable(path: Path, error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{path}: no such file"
    if isinstance(error, PermissionError):
        return f"{path}: no permission to read it: run as its owner or as root"
    return f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}"


def _decode(path: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = content[error.start]
        text = f"not valid UTF-8: byte 0x{byte:02x}; save the file as UTF-8"
        raise ConfigError([f"{path}:{line}: {text}"]) from None
