# SPDX-License-Identifier: Apache-2.0
"""How many files, which connections are too, a process of the lab may have open."""

from __future__ import annotations

import resource

__all__ = ["allow_many_files"]


def allow_many_files() -> None:
    """Raise the soft limit, often 1024, to the hard one: a lab holds thousands of connections."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
