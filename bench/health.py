# SPDX-License-Identifier: Apache-2.0
"""health_grpc under load: 2,000 nodes with one report per second each, over real sockets.

The server has a process of its own, with the registry, the plugins and the desk of a balancer
behind it (no kernel programs: nodes report, tables are not written). The nodes are another
process, which writes prepared frames and so costs little.

What is measured: the share of one core that the server uses; the time from sending a report to
reading its answer, at the nodes; reports that were not answered before the next one was due
(missed deadlines); nodes that fell; the server's memory per stream. Every run is a new server.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

STREAMS = int(os.environ.get("GALELB_BENCH_STREAMS", "2000"))
SECONDS = float(os.environ.get("GALELB_BENCH_SECONDS", "20"))
RUNS = int(os.environ.get("GALELB_BENCH_RUNS", "3"))
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

Result = Mapping[str, Any]


def run() -> dict[str, Any]:
    """Return every run and, by figure, the least and the median of them."""
    runs = [_one_run() for _ in range(RUNS)]
    figures = runs[0].keys()
    return {
        "streams": STREAMS,
        "reports_per_s": STREAMS,
        "seconds": SECONDS,
        "least": {key: min(run[key] for run in runs) for key in figures},
        "median": {key: statistics.median(run[key] for run in runs) for key in figures},
        "runs": runs,
    }


def describe(result: Result) -> str:
    """Return a result as lines for people."""
    lines = [
        f"  {result['streams']} streams, one report per second each, "
        f"{len(result['runs'])} runs of {result['seconds']:g} s; least and median:"
    ]
    names = {
        "cpu_percent": "share of one core, %",
        "p50_ms": "report to answer, p50, ms",
        "p99_ms": "report to answer, p99, ms",
        "worst_ms": "report to answer, worst, ms",
        "missed": "missed deadlines",
        "falls": "nodes that fell",
        "bytes_per_stream": "memory per stream, bytes",
    }
    for key, name in names.items():
        least, median = result["least"][key], result["median"][key]
        lines.append(f"  {name:32} {least:>10g} {median:>10g}")
    return "\n".join(lines)


def _one_run() -> dict[str, float]:
    with _process("bench.health_server") as server:
        port = _line(server)["port"]
        idle_bytes = _memory(server.pid)
        with _process("bench.health_load", str(port), str(STREAMS), str(SECONDS)) as load:
            _line(load)  # all nodes have joined
            before = _cpu_s(server.pid)
            measured = _line(load)
            used = _cpu_s(server.pid) - before
            memory = _memory(server.pid) - idle_bytes
            _ask(server)
            seen = _line(server)
    return {
        "cpu_percent": round(100 * used / measured["seconds"], 1),
        "p50_ms": round(measured["p50_ms"], 2),
        "p99_ms": round(measured["p99_ms"], 2),
        "worst_ms": round(measured["worst_ms"], 2),
        "missed": measured["missed"],
        "falls": seen["falls"],
        "bytes_per_stream": memory // STREAMS,
    }


@contextmanager
def _process(module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a part of the benchmark; it ends when its standard input is closed."""
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _line(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{process.args!r} ended early")
    found: dict[str, Any] = json.loads(line)
    return found


def _ask(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def _memory(pid: int) -> int:
    """Return the resident bytes of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
