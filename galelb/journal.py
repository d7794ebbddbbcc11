# SPDX-License-Identifier: Apache-2.0
"""How lines reach systemd's journal with their severity: "<3>" at the begin means an error."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TextIO

__all__ = ["goes_to_journal", "prioritised"]

_PRIORITIES = {"critical": 2, "error": 3, "exception": 3, "warning": 4, "info": 6, "debug": 7}


def goes_to_journal(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether the journal itself reads a stream.

    JOURNAL_STREAM alone says little: whoever redirects the output inherits the variable.
    """
    try:
        device, inode = map(int, environ.get("JOURNAL_STREAM", "").split(":"))
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return (status.st_dev, status.st_ino) == (device, inode)


def prioritised(level: str, text: str) -> str:
    """Return the text with its severity before each line."""
    prefix = f"<{_PRIORITIES.get(level, 6)}>"
    return "\n".join(prefix + line for line in text.split("\n"))
