# SPDX-License-Identifier: Apache-2.0
"""Why a connection could not be made, in words."""

from __future__ import annotations

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
    return error.strerror or str(error)
