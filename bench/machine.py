# SPDX-License-Identifier: Apache-2.0
"""CPU time of this machine and its parts, ratios within rounds, and results that do not count."""

from __future__ import annotations

import gzip
import os
import platform
from collections.abc import Sequence
from pathlib import Path

import click

from bench.figures import spread

__all__ = ["RefusedError", "busy_s", "interrupts_s", "process_s", "ratios", "softirq_thread"]

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_IRQ_TIME = "CONFIG_IRQ_TIME_ACCOUNTING=y"


class RefusedError(click.ClickException):
    """A result that does not count: something else happened than what was to be measured."""


def busy_s() -> float:
    """Return for how long the CPUs of this machine have been busy, interrupts included."""
    user, nice, system, _idle, _iowait, irq, softirq = _cpu_ticks("cpu")
    return (user + nice + system + irq + softirq) / _TICKS_PER_S


def interrupts_s(cpu: int) -> float:
    """Return the time of a CPU in interrupts that this kernel does not count for any thread.

    Most kernels count it for whoever is interrupted, and it is 0; some keep it apart.
    """
    if not _keeps_interrupts_apart():
        return 0.0
    return sum(_cpu_ticks(f"cpu{cpu}")[5:]) / _TICKS_PER_S


def process_s(pid: int) -> float:
    """Return the CPU time of a process, all its threads, without children."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(one.read_text().split()[0]) for one in threads) / 1e9


def softirq_thread(cpu: int) -> int:
    """Return the id of the kernel's thread that does what interrupts of a CPU left to do."""
    for path in Path("/proc").glob("[0-9]*/comm"):
        if path.read_text().strip() == f"ksoftirqd/{cpu}":
            return int(path.parent.name)
    raise RefusedError(f"this kernel has no ksoftirqd/{cpu}")


def ratios(values: Sequence[float], others: Sequence[float]) -> dict[str, float]:
    """Return the spread of ratios of what was measured in the same round."""
    return spread([one / other for one, other in zip(values, others, strict=True)], 2)


def _cpu_ticks(name: str) -> list[int]:
    for line in Path("/proc/stat").read_text().splitlines():
        if line.split()[0] == name:
            return [int(word) for word in line.split()[1:8]]
    raise RefusedError(f"/proc/stat has no {name}")


def _keeps_interrupts_apart() -> bool:
    text = ""
    packed, plain = Path("/proc/config.gz"), Path(f"/boot/config-{platform.release()}")
    if packed.exists():
        text = gzip.decompress(packed.read_bytes()).decode()
    elif plain.exists():
        text = plain.read_text()
    return _IRQ_TIME in text
