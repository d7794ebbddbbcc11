# SPDX-License-Identifier: Apache-2.0
"""Plans what the pipeline's own maps shall hold; pure, the data path does the system calls."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any

from galelb.abi import NO_TABLE, NodeFlag
from galelb.health.weights import coarse
from galelb.model import IPAddress, NodeRecord, NodeState, Service, shared_weight
from galelb.packing import address_words, network_port
from galelb.services import acceptor

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
    if not record.routable and record.state is not NodeState.PROBATION:
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
    stateful: bool = True,
) -> tuple[tuple[str, float], ...]:
    """Return (address, weight) of the nodes that the service's table shall name, sorted.

    Where the forwarder is not `stateful` every change of a table moves live connections, so slow
    starts take fewer and larger steps there.
    """
    accepted = acceptor(service, any_family=any_family)
    found = [
        record
        for record in records
        if record.takes_new_flows
        and accepted(record.node.address)
        and record.node.address not in unroutable
    ]
    shares = [_shares(record, stateful=stateful) for record in found]
    if len(set(shares)) == 1:
        # All of them less is the same as all of them whole, and needs no other table.
        shares = [()] * len(found)
    return tuple(
        sorted(
            (str(record.node.address), shared_weight(record.weight, *share))
            for record, share in zip(found, shares, strict=True)
        )
    )


def _shares(record: NodeRecord, *, stateful: bool) -> tuple[int, ...]:
    start = record.start_share
    return start if stateful else coarse(start), record.load_share
