# SPDX-License-Identifier: Apache-2.0
"""Remembers that an operator has stopped a node, so that a restart does not start it again."""

from __future__ import annotations

from pathlib import Path

import structlog

__all__ = ["StopFile"]

log = structlog.get_logger(__name__)

_TEXT = "An operator has stopped this node: `galelb node start` takes it into service again.\n"


class StopFile:
    """A file that is there while the node is stopped; its age is that of the decision.

    All methods block on the disk.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def since(self) -> float | None:
        """Return when the node was stopped (seconds since the epoch); None when it is not."""
        try:
            return self.path.lstat().st_mtime
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            log.warning("stop_file_unreadable", path=str(self.path), reason=error.strerror)
            return None

    def write(self) -> None:
        """Remember the stop; a second one leaves the first's time. Raises OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.since() is None:
            self.path.write_text(_TEXT)

    def remove(self) -> None:
        """Forget it. Raises OSError."""
        self.path.unlink(missing_ok=True)
