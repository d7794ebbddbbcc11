# SPDX-License-Identifier: Apache-2.0
"""The control plane: how long changes take to be in the kernel's maps, start, joining, memory.

Plans are made by the balancer's own parts over real maps, in a namespace of their own (see
control_plan.py): everything written into empty maps, and then one node after the other falls.
Times are from the node's report until all maps hold it; the lag is the most that something else
in the event loop, wanting to run every millisecond, had to wait meanwhile. After each case the
maps in the kernel are read and must say what they should.

Starts, joining and memory are those of a real `galelb run` between two veth pairs
(control_start.py). A client sends a packet each millisecond, and time is counted from before
the process is made until the first one leaves towards a node.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import structlog

from bench.control_plan import Case, measure, quiet_log
from bench.control_start import large, starts
from bench.control_world import network
from bench.figures import line, machine
from galelb.logs import configure_logging
from galelb.plugins import Plugins

ROUNDS = int(os.environ.get("GALELB_BENCH_ROUNDS", "3"))
CHANGES = int(os.environ.get("GALELB_BENCH_CHANGES", "10"))
NODES = int(os.environ.get("GALELB_BENCH_NODES", "1000"))
SERVICES = int(os.environ.get("GALELB_BENCH_SERVICES", "100"))
FORWARDERS = os.environ.get("GALELB_BENCH_FORWARDERS", "l2_bridge l3_route l4_nat").split()
"""The plans of the last one are measured in all sizes: it has most to plan."""


def cases() -> list[Case]:
    """Return the sizes of configurations whose plans are measured."""
    sizes = [nodes for nodes in (10, 100, 1000) if nodes < NODES] + [NODES]
    found = [
        Case(
            nodes=nodes,
            services=services,
            forwarder=FORWARDERS[-1],
            changes=min(CHANGES, nodes // 2),
        )
        for nodes in sizes
        for services in sorted({1, SERVICES})
    ]
    whole = Case(nodes=NODES, services=SERVICES, forwarder=FORWARDERS[0], changes=CHANGES)
    each = Case(nodes=NODES, services=SERVICES, forwarder=FORWARDERS[0], same=False, changes=2)
    return [*found, whole, each]


def run() -> dict[str, Any]:
    """Measure everything."""
    return {
        "machine": machine(),
        "rounds": ROUNDS,
        "plans": _plans(),
        "starts": [_start(name) for name in FORWARDERS],
        "large": [_large(name) for name in dict.fromkeys((FORWARDERS[0], FORWARDERS[-1]))],
    }


def _plans() -> list[dict[str, Any]]:
    plugins = Plugins.discover()
    with quiet_log() as log, network() as net:
        configure_logging("info", stream=log)
        try:
            return [measure(case, net, plugins, ROUNDS if case.same else 1) for case in cases()]
        finally:
            structlog.reset_defaults()


def _start(forwarder: str) -> dict[str, Any]:
    with network() as net:
        return starts(net, forwarder, ROUNDS)


def _large(forwarder: str) -> dict[str, Any]:
    with network(answering=NODES) as net:
        return large(net, forwarder, nodes=NODES, services=SERVICES, changes=min(CHANGES, NODES))


def describe(result: Mapping[str, Any]) -> str:
    """Return tables of the result."""
    head = f"  {'':<58}{'min':>10}{'median':>10}{'max':>10}"
    return "\n".join([head, *_plan_lines(result), *_start_lines(result), *_large_lines(result)])


def _plan_lines(result: Mapping[str, Any]) -> Iterator[str]:
    for one in result["plans"]:
        yield f"  {one['case']} (one table is built in {one['table_built_ms']:g} ms)"
        yield line("    everything, into empty maps", one["whole_ms"], "ms")
        yield line("      event-loop lag meanwhile", one["whole_lag_ms"], "ms")
        yield line("    a node falls", one["change_ms"], "ms")
        yield line("      CPU time", one["change_cpu_ms"], "ms")
        yield line("      event-loop lag meanwhile", one["change_lag_ms"], "ms")


def _start_lines(result: Mapping[str, Any]) -> Iterator[str]:
    for one in result["starts"]:
        yield f"  galelb run, {one['forwarder']}, {one['nodes']} nodes: {_memory(one['memory_mb'])}"
        yield line("    start to first packet, never compiled before", one["cold_ms"], "ms")
        yield line("    start to first packet, compiled before", one["known_ms"], "ms")
        yield line("    start to ready, compiled before", one["known_ready_ms"], "ms")
        yield line("    restart to ready", one["adopted_ready_ms"], "ms")
        yield line("    packets lost in a restart", one["adopted_lost"], "")


def _large_lines(result: Mapping[str, Any]) -> Iterator[str]:
    for one in result["large"]:
        yield (
            f"  galelb run, {one['forwarder']}, {one['nodes']:,} nodes, {one['services']} services:"
            f" {_memory(one['memory_mb'])}"
        )
        yield f"    with one node before: {_memory(one['memory_of_one_node_mb'])}"
        yield (
            f"    all nodes join at once and are asked for their MACs: {one['joined_s']:g} s,"
            f" event-loop lag up to {one['lag_ms']:g} ms"
        )
        yield line("    a node gets another weight", one["change_ms"], "ms")


def _memory(values: Mapping[str, float]) -> str:
    """Return memory in words: pages of maps count, but are not the process's own."""
    return f"{values['most']:g} MB resident at most, {values['own']:g} MB of it its own"
