# SPDX-License-Identifier: Apache-2.0
"""How the cost of a packet grows with flows, nodes and services; as numbers and as a picture.

Method: that of packet.py, one case for each point. What is drawn is the median of what the
program costs beyond the wrapper around it (the floor, measured in turn with it). The picture is
an SVG file: build/bench/scale.svg, or what GALELB_BENCH_PLOT names.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.figures import line, machine
from bench.packet import PACKETS, ROUNDS, Case, measure, room
from bench.plot import Panel, draw
from galelb.plugins import Plugins

PLOT = Path(os.environ.get("GALELB_BENCH_PLOT", "build/bench/scale.svg"))
MOST_FLOWS = int(os.environ.get("GALELB_BENCH_FLOWS", "1000000"))
MOST_NODES = int(os.environ.get("GALELB_BENCH_NODES", "1000"))
MOST_SERVICES = int(os.environ.get("GALELB_BENCH_SERVICES", "1000"))
_FLOWS = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)
_NODES = (10, 30, 100, 300, 1_000)
_SERVICES = (1, 3, 10, 30, 100, 300, 1_000)
_WAYS = ("l2_bridge", "l3_route ipip", "l4_nat to nodes")
_BACK = "l4_nat to clients"
_SOME = 10_000
"""Flows where something else grows."""
_TABLE_SIZE = 65_537


def series() -> dict[str, dict[str, list[Case]]]:
    """Return cases by what grows in them, and by name of their line."""
    flows = [number for number in _FLOWS if number <= MOST_FLOWS]
    nodes = [number for number in _NODES if number <= MOST_NODES]
    services = [number for number in _SERVICES if number <= MOST_SERVICES]
    some = min(_SOME, MOST_FLOWS)
    return {
        "flows": {
            **{name: [_case(name, flows=n) for n in flows] for name in _WAYS},
            _BACK: [_case(_BACK, flows=n, answers=True) for n in flows],
        },
        "nodes": {
            f"{name}, {some:,} flows": [
                _case(name, flows=some, nodes=n, table_size=_TABLE_SIZE) for n in nodes
            ]
            for name in _WAYS
        },
        "services": {
            f"{name}, 1 flow": [_case(name, services=n) for n in services] for name in _WAYS
        },
    }


def _case(name: str, **sizes: Any) -> Case:
    forwarder = name.split()[0]
    options: dict[str, Any] = {"encap": "ipip"} if forwarder == "l3_route" else {}
    if forwarder == "l4_nat":
        options = room(4, sizes.get("flows", 1))
    return Case(forwarder=forwarder, options=options, **sizes)


def run() -> dict[str, Any]:
    """Measure every point, and draw them."""
    plugins = Plugins.discover()
    found = {
        grows: {
            name: [_point(case, grows, plugins) for case in cases] for name, cases in lines.items()
        }
        for grows, lines in series().items()
    }
    PLOT.parent.mkdir(parents=True, exist_ok=True)
    PLOT.write_text(draw("Nanoseconds of a packet beyond the floor", _panels(found)))
    return {
        "machine": machine(),
        "packets_per_round": PACKETS,
        "rounds": ROUNDS,
        "series": found,
        "plot": str(PLOT),
    }


def _point(case: Case, grows: str, plugins: Plugins) -> dict[str, Any]:
    measured = measure(case, plugins)
    return {
        "at": getattr(case, grows),
        "beyond_floor_ns": measured["beyond_floor_ns"],
        "ratio": measured["ratio"],
    }


def _panels(found: Mapping[str, Mapping[str, list[dict[str, Any]]]]) -> list[Panel]:
    return [
        Panel(
            title=grows,
            lines={
                name: [(one["at"], one["beyond_floor_ns"]["median"]) for one in points]
                for name, points in lines.items()
            },
        )
        for grows, lines in found.items()
    ]


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
