# SPDX-License-Identifier: Apache-2.0
"""Keeps compiled programs on disk, so that a known text is loaded without a compiler."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import attrs

__all__ = ["Artefacts"]

_MOST = 32
_MAX_BYTES = 4 << 20


@attrs.frozen
class Artefacts:
    """A folder of compiled programs; what is damaged, foreign or of another compiler is none.

    The folder is ours alone (0700), since what lies in it is loaded into the kernel; in another
    one nothing is read or written. A problem with the disk only means compiling again.
    """

    folder: Path

    def any(self) -> bool:
        """Whether anything is kept, of whatever use."""
        return next(self.folder.glob("programs-*.json"), None) is not None

    def read(self, key: str) -> dict[str, Any] | None:
        """Return what was kept under a key."""
        path = self._file(key)
        try:
            if not self._is_private() or path.stat().st_size > _MAX_BYTES:
                return None
            seal, _, text = path.read_text().partition("\n")
            if seal != _seal(key, text):
                return None
            content = dict(json.loads(text))
            if not _is_there(content["compiler"]):
                return None
            os.utime(path)  # used: not to be removed soon
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return content

    def write(self, key: str, content: dict[str, Any]) -> None:
        """Keep what a compiler answered; the oldest ones go."""
        text = json.dumps(content)
        with contextlib.suppress(OSError):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if content["compiler"] and self._is_private() and len(text) < _MAX_BYTES:
                self._replace(self._file(key), f"{_seal(key, text)}\n{text}")
                self._tidy()

    def _replace(self, path: Path, text: str) -> None:
        partial = path.with_suffix(f".{os.getpid()}.new")
        fd = os.open(partial, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(text)
        partial.replace(path)

    def _tidy(self) -> None:
        kept = sorted(self.folder.iterdir(), key=lambda path: -path.stat().st_mtime)
        for path in kept[_MOST:]:
            path.unlink()

    def _is_private(self) -> bool:
        stat = self.folder.lstat()
        return stat.st_uid == os.geteuid() and stat.st_mode & 0o170077 == 0o040000

    def _file(self, key: str) -> Path:
        return self.folder / f"programs-{key}.json"


def _seal(key: str, text: str) -> str:
    return hashlib.sha256(f"{key}\n{text}".encode()).hexdigest()


def _is_there(compiler: dict[str, Any]) -> bool:
    """Whether the library that compiled is still the one that would compile."""
    stat = Path(compiler["path"]).stat()
    return (stat.st_size, stat.st_mtime_ns) == (compiler["size"], compiler["changed_ns"])
