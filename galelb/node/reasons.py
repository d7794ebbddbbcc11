# SPDX-License-Identifier: Apache-2.0
"""Why a connection could not be made, in words."""

from __future__ import annotations

import os

__all__ = ["os_reason"]


def os_reason(error: OSError) -> str:
    """Return the system's words for an error.

    trio tries every address of a name: then the first failure says more than "all failed".
    """
    cause = error.__cause__
    if isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    if isinstance(cause, OSError):
        error = cause
    if error.errno and error.errno > 0:
        return os.strerror(error.errno)  # trio's own text repeats the address as Python has it
    return error.strerror or str(error)
