# SPDX-License-Identifier: Apache-2.0
"""Makes metrics of what the balancer knows; pure, but for the process's own."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client import ProcessCollector

from galelb.api.view import InterfaceStatus, PeerStatus
from galelb.control import metric_families as family
from galelb.control.counters import Counters, outcome
from galelb.forwarder import DataPath, Forwarder
from galelb.model import Metric, NodeRecord, NodeState, Service
from galelb.tables.keeper import TableKeeper

__all__ = [
    "build_metrics",
    "build_times",
    "forwarder_metrics",
    "interface_metrics",
    "node_metrics",
    "peer_metrics",
    "process_metrics",
    "table_facts",
    "table_metrics",
    "traffic_metrics",
]


def traffic_metrics(
    counters: Counters, services: Mapping[int, Service], nodes: Mapping[int, str]
) -> Iterator[Metric]:
    """Return packets and bytes of services (by id) and nodes (by number)."""
    names = {number: service.name for number, service in services.items()} | {0: ""}
    for number, counts in counters.by_service.items():
        for reason, count in counts.items():
            labels = (names[number], reason.name.lower(), outcome(reason))
            yield family.PACKETS.sample(count.packets, *labels)
            yield family.BYTES.sample(count.bytes, *labels)
    for number, count in counters.by_node.items():
        yield family.NODE_PACKETS.sample(count.packets, nodes[number])
        yield family.NODE_BYTES.sample(count.bytes, nodes[number])


def node_metrics(records: Iterable[NodeRecord], taking: Iterable[NodeRecord]) -> Iterator[Metric]:
    """Return the health and weight of every node; `taking` are those that tables may name."""
    named = {record.node.address for record in taking}
    for record in records:
        node = str(record.node.address)
        static = "true" if record.node.static else "false"
        yield family.NODE_INFO.sample(1, node, record.node.name, static)
        for state in NodeState:
            yield family.NODE_STATE.sample(record.state is state, node, state.value)
        routable = record.node.address in named
        yield family.NODE_ROUTABLE.sample(routable, node)
        yield family.NODE_DRAINING.sample(record.draining, node)
        yield family.NODE_WEIGHT.sample(record.effective_weight if routable else 0, node)
        yield family.NODE_FAILURES.sample(record.failures, node)


TableFacts = tuple[str, int, int, int, float]
"""Service, nodes and slots of its table, changes so far, share of slots that the last one moved."""


def table_facts(services: Mapping[int, Service], tables: TableKeeper) -> list[TableFacts]:
    """Return what `table_metrics` needs; the keeper belongs to the trio thread."""
    facts = []
    for number, service in services.items():
        table, changes = tables.table(number), tables.changes.get(service.name)
        nodes, slots = (len(table.spec.nodes), len(table.slots)) if table else (0, 0)
        count, moved = (changes.count, changes.moved) if changes else (0, 0.0)
        facts.append((service.name, nodes, slots, count, moved))
    return facts


def table_metrics(facts: Iterable[TableFacts]) -> Iterator[Metric]:
    """Return the lookup tables of the services."""
    for service, nodes, slots, changes, moved in facts:
        yield family.ROUTABLE_NODES.sample(nodes, service)
        yield family.TABLE_SLOTS.sample(slots, service)
        yield family.TABLE_CHANGES.sample(changes, service)
        yield family.TABLE_MOVED.sample(moved, service)


def build_times(tables: TableKeeper) -> list[Metric]:
    """Return how long lookup tables take to build."""
    times = tables.build_times.items()
    return [family.TABLE_BUILD_DURATION.sample(one, scheduler) for scheduler, one in times]


def forwarder_metrics(forwarders: Mapping[str, Forwarder], datapath: DataPath) -> Iterator[Metric]:
    """Return how many flows there are, and what forwarders tell themselves; reads maps."""
    for name, forwarder in forwarders.items():
        yield family.FLOWS.sample(forwarder.flow_count(), name)
        yield from forwarder.metrics(datapath)


def build_metrics(version: str, digest: str) -> Iterator[Metric]:
    """Return which software runs, with which configuration."""
    yield family.BUILD_INFO.sample(1, version, platform.python_version(), platform.release())
    yield family.CONFIG_INFO.sample(1, digest)


def interface_metrics(interfaces: Iterable[InterfaceStatus]) -> Iterator[Metric]:
    """Return which interfaces have programs."""
    for one in interfaces:
        mode = "" if one.mode is None else one.mode.value
        yield family.INTERFACE.sample(one.mode is not None, one.name, one.role, mode)


def peer_metrics(peers: Iterable[PeerStatus]) -> Iterator[Metric]:
    """Return which other balancers are heard."""
    for one in peers:
        host = f"[{one.peer.address}]" if one.peer.address.version == 6 else one.peer.address
        yield family.PEER_ALIVE.sample(one.peer.alive, f"{host}:{one.peer.port}")


def process_metrics() -> Sequence[Metric]:
    """Return what every program tells of itself: CPU, memory, files; reads /proc."""
    return [
        Metric(
            name=sample.name,
            help=found.documentation,
            value=sample.value,
            labels=dict(sample.labels),
            kind=found.type,
        )
        for found in ProcessCollector(registry=None).collect()
        for sample in found.samples
    ]
