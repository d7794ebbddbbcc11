# SPDX-License-Identifier: Apache-2.0
"""How the cost of a packet grows with flows, nodes and services; as numbers and as a picture.

Method: that of packet.py, one case for each point, in IPv4. What is drawn is the median of what
the program costs beyond the wrapper around it (the floor, measured in turn with it), with a band
from the least to the most. The picture is a PNG file: build/bench/scale.png, or what
GALELB_BENCH_PLOT names.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.cases import NODES, PACKETS, ROUNDS, Case
from bench.figures import line, machine
from bench.packet import measure
from bench.plot import Panel, Point, draw, save
from galelb.plugins import Plugins

__all__ = ["describe", "run", "series"]

PLOT = Path(os.environ.get("GALELB_BENCH_PLOT", "build/bench/scale.png"))
MOST_FLOWS = int(os.environ.get("GALELB_BENCH_FLOWS", "1000000"))
MOST_NODES = int(os.environ.get("GALELB_BENCH_NODES", "1000"))
MOST_SERVICES = int(os.environ.get("GALELB_BENCH_SERVICES", "1000"))
_FLOWS = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)
_NODES = (10, 30, 100, 300, 1_000)
_SERVICES = (1, 3, 10, 30, 100, 300, 1_000)
_WAYS: Mapping[str, Mapping[str, Any]] = {
    "l2_bridge": {"forwarder": "l2_bridge"},
    "l3_route ipip": {"forwarder": "l3_route", "encap": "ipip"},
    "l4_nat to nodes": {"forwarder": "l4_nat"},
    "l4_nat to clients": {"forwarder": "l4_nat", "answers": True},
}
_SOME_FLOWS = min(10_000, MOST_FLOWS)
"""Flows where nodes grow."""
_TABLE_SIZE = 65_537
_FIXED = {
    "flows": f"{NODES} nodes, 1 service",
    "nodes": f"{_SOME_FLOWS:,} flows, 1 service",
    "services": f"1 flow, {NODES} nodes",
}


def series() -> dict[str, dict[str, list[Case]]]:
    """Return cases by what grows in them, and by name of their line."""
    grown: dict[str, list[dict[str, Any]]] = {
        "flows": [{"flows": n} for n in _FLOWS if n <= MOST_FLOWS],
        "nodes": [
            {"nodes": n, "flows": _SOME_FLOWS, "table_size": _TABLE_SIZE}
            for n in _NODES
            if n <= MOST_NODES
        ],
        "services": [{"services": n} for n in _SERVICES if n <= MOST_SERVICES],
    }
    return {
        grows: {name: [Case(**way, **size) for size in sizes] for name, way in _WAYS.items()}
        for grows, sizes in grown.items()
    }


def run() -> dict[str, Any]:
    """Measure every point, and draw them. Raises RefusedError."""
    plugins = Plugins.discover()
    found = {
        grows: {
            name: [_point(case, grows, plugins) for case in cases] for name, cases in lines.items()
        }
        for grows, lines in series().items()
    }
    result = {
        "machine": machine(),
        "packets_per_round": PACKETS,
        "rounds": ROUNDS,
        "series": found,
        "plot": str(PLOT),
    }
    save(draw("What a packet costs as things grow", _note(result), _panels(found)), PLOT)
    return result


def _point(case: Case, grows: str, plugins: Plugins) -> dict[str, Any]:
    measured = measure(case, plugins)
    return {
        "at": getattr(case, grows),
        "beyond_floor_ns": measured["beyond_floor_ns"],
        "ratio": measured["ratio"],
    }


def _note(result: Mapping[str, Any]) -> str:
    about = result["machine"]
    return (
        f"{about['model']}, kernel {about['kernel']}; IPv4, one core, {PACKETS:,} packets a round;"
        f" line: median of {ROUNDS} rounds, band: least to most"
    )


def _panels(found: Mapping[str, Mapping[str, list[dict[str, Any]]]]) -> list[Panel]:
    return [
        Panel(
            grows=grows,
            fixed=_FIXED[grows],
            lines={name: list(map(_drawn, points)) for name, points in lines.items()},
        )
        for grows, lines in found.items()
    ]


def _drawn(point: Mapping[str, Any]) -> Point:
    ns = point["beyond_floor_ns"]
    return Point(at=point["at"], least=ns["min"], median=ns["median"], most=ns["max"])


def describe(result: Mapping[str, Any]) -> str:
    """Return the numbers, and where the picture is."""
    lines = [f"  {'nanoseconds beyond the floor':<58}{'min':>10}{'median':>10}{'max':>10}"]
    for grows, each in result["series"].items():
        for name, points in each.items():
            lines += [
                line(f"{name}: {one['at']:,} {grows}", one["beyond_floor_ns"], "ns")
                for one in points
            ]
    return "\n".join([*lines, f"  drawn in {result['plot']}"])
