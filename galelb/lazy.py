# SPDX-License-Identifier: Apache-2.0
"""Imports less: packages import their modules when asked, others do without what is optional."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

__all__ = ["hidden", "lazily"]


def lazily(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package: `homes` maps a name to the module that has it.

    Commands that need little of a package then start without what the rest of it imports.
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return get


@contextlib.contextmanager
def hidden(package: str) -> Iterator[None]:
    """Let an optional package seem not installed to what is imported in the block."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]  # what "import" takes for: there is none
    try:
        yield
    finally:
        del sys.modules[package]
