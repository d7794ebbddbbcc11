# SPDX-License-Identifier: Apache-2.0
"""Plans what the pipeline's own maps shall hold; pure, the data path does the system calls."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any

from galelb.abi import NO_TABLE, NodeFlag
from galelb.model import IPAddress, NodeRecord, NodeState, Service
from galelb.packing import address_words, network_port
from galelb.services import accepts

__all__ = [
    "NO_NODE",
    "NO_SERVICE",
    "eligible_nodes",
    "node_leaf",
    "service_leaf",
]

IPV6 = 6
_NOWHERE = (0, 0, 0, 0)
NO_NODE: Mapping[str, Any] = {"addr": _NOWHERE, "next_hop": 0, "flags": 0, "option": 0}
"""A `struct gale_node` of a node that is no more."""
NO_SERVICE: Mapping[str, Any] = {
    "addr": _NOWHERE,
    "port": 0,
    "target_port": 0,
    "protocol": 0,
    "family": 0,
    "vlan": 0,
    "table": NO_TABLE,
    "option": 0,
}
"""A `struct gale_service` of a service that is no longer served."""


def service_leaf(service: Service, table: int | None) -> dict[str, Any]:
    """Return a `struct gale_service`; `table` is its first gale_slots element, if it has one."""
    return {
        "addr": address_words(service.vip),
        "port": network_port(service.port),
        "target_port": network_port(service.target_port),
        "protocol": int(service.protocol),
        "family": service.vip.version,
        "vlan": service.vlan,
        "table": NO_TABLE if table is None else table,
        "option": 0,
    }


def node_leaf(record: NodeRecord, next_hop: int) -> dict[str, Any]:
    """Return a `struct gale_node` for a node whose next hop has this index (0 = unresolved)."""
    flags = NodeFlag.PRESENT
    if record.state in (NodeState.DOWN, NodeState.BLACKLISTED):
        flags |= NodeFlag.DOWN
    if record.draining:
        flags |= NodeFlag.DRAINING
    if record.node.address.version == IPV6:
        flags |= NodeFlag.IPV6
    return {
        "addr": address_words(record.node.address),
        "next_hop": next_hop,
        "flags": int(flags),
        "option": 0,
    }


def eligible_nodes(
    service: Service,
    records: Iterable[NodeRecord],
    unroutable: Container[IPAddress],
    *,
    any_family: bool = False,
) -> tuple[tuple[str, int], ...]:
    """Return (address, weight) of the nodes that the service's table shall name, sorted."""
    return tuple(
        sorted(
            (str(record.node.address), record.weight)
            for record in records
            if record.takes_new_flows
            and accepts(service, record.node.address, any_family=any_family)
            and record.node.address not in unroutable
        )
    )
