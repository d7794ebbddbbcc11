# SPDX-License-Identifier: Apache-2.0
"""CPU time of this machine and its parts, ratios within rounds, and results that do not count."""

from __future__ import annotations

import contextlib
import gzip
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from bench.figures import spread

__all__ = ["RefusedError", "busy_s", "interrupts_s", "process_s", "ratios", "softirq_thread"]

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_KERNEL_THREADS = 2
_IRQ_TIME = "CONFIG_IRQ_TIME_ACCOUNTING=y"


class RefusedError(click.ClickException):
    """A result that does not count: something else happened than what was to be measured."""


def busy_s() -> float:
    """Return the CPU time of this machine, but for processes that are none of ours.

    Of use is only how it grows. What the kernel does by itself, in interrupts and threads, is in
    it; so are processes that ended without their parent taking notice.
    """
    user, nice, system, _idle, _iowait, irq, softirq = _cpu_ticks("cpu")
    return (user + nice + system + irq + softirq - _ticks_of_others()) / _TICKS_PER_S


def _ticks_of_others() -> int:
    """Return the ticks of all processes but our own, of their ended children too."""
    parents, ticks = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            fields = path.read_text().rpartition(")")[2].split()
            pid = int(path.parent.name)
            parents[pid] = int(fields[1])
            ticks[pid] = sum(map(int, fields[11:15]))
    ours = {os.getpid(), _KERNEL_THREADS}
    return sum(count for pid, count in ticks.items() if not ours & _ancestry(pid, parents))


def _ancestry(pid: int, parents: Mapping[int, int]) -> set[int]:
    """Return a process and those that it descends from."""
    found = set()
    while pid and pid not in found:
        found.add(pid)
        pid = parents.get(pid, 0)
    return found


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
