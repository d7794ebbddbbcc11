# SPDX-License-Identifier: Apache-2.0
"""What results have in common: the machine that they are of, and the spread of some values."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["line", "machine", "spread"]


def machine() -> dict[str, Any]:
    """Return the kernel, the processors and the Python of this machine."""
    models = [
        text.partition(":")[2].strip()
        for text in Path("/proc/cpuinfo").read_text().splitlines()
        if text.startswith("model name")
    ]
    return {
        "kernel": platform.release(),
        "cpus": os.cpu_count(),
        "model": models[0] if models else platform.machine(),
        "python": platform.python_version(),
    }


def spread(values: Sequence[float], digits: int = 1) -> dict[str, float]:
    """Return the least, the median and the most of some values, and how many there are."""
    return {
        "min": round(min(values), digits),
        "median": round(statistics.median(values), digits),
        "max": round(max(values), digits),
        "count": len(values),
    }


def line(name: str, values: Mapping[str, float], unit: str) -> str:
    """Return a spread as a line for people."""
    columns = "".join(f"{values[key]:>10,g}" for key in ("min", "median", "max"))
    return f"  {name:<58}{columns}  {unit}"
