# SPDX-License-Identifier: Apache-2.0
"""What one plan is made from, taken at one moment so that worker threads may compute with it."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

import attrs

from galelb.control.planning import NO_NODE, eligible_nodes, node_leaf
from galelb.control.served import Served
from galelb.forwarder import ForwardingView, PlannedNode
from galelb.model import IPAddress, NodeRecord

__all__ = ["Refused", "Snapshot", "Targets", "refused_by_all", "table_targets"]

Targets = Mapping[int, tuple[tuple[str, float], ...]]
"""(address, weight) of the nodes that each service's table shall name, sorted."""
Refused = Mapping[str, Mapping[IPAddress, str]]
"""The nodes that each forwarder cannot reach, and why."""


@attrs.frozen(kw_only=True)
class Snapshot:
    """The nodes, their numbers by address, and the ways to them."""

    records: Sequence[NodeRecord]
    numbers: Mapping[str, int]
    next_hops: Mapping[IPAddress, int]
    gateways: Mapping[IPAddress, IPAddress | None]

    def numbered(self) -> Iterator[tuple[int, NodeRecord]]:
        """Iterate over the nodes that have a number."""
        for record in self.records:
            number = self.numbers.get(str(record.node.address))
            if number is not None:
                yield number, record

    def leaves(self) -> list[tuple[int, Mapping[str, Any]]]:
        """Return gale_nodes; empty leaves for nodes that are no more: their flows go round."""
        leaves: dict[int, Mapping[str, Any]] = dict.fromkeys(self.numbers.values(), NO_NODE)
        for number, record in self.numbered():
            leaves[number] = node_leaf(record, self.next_hops.get(record.node.address, 0))
        return list(leaves.items())

    def addresses(self) -> dict[IPAddress, int]:
        """Return the nodes' numbers by address."""
        return {record.node.address: number for number, record in self.numbered()}

    def view(self, served: Served, forwarder: str | None = None) -> ForwardingView:
        """Return services and nodes by number, of one forwarder or of all."""
        return ForwardingView(
            services={
                number: service
                for number, service in served.services.items()
                if forwarder in (None, service.forwarder)
            },
            nodes={
                number: PlannedNode(
                    index=number,
                    address=record.node.address,
                    gateway=self.gateways.get(record.node.address),
                )
                for number, record in self.numbered()
            },
            host=served.host,
        )


def refused_by_all(refused: Refused) -> dict[IPAddress, str]:
    """Return the nodes that no forwarder reaches, with all their reasons."""
    if not refused:
        return {}
    common = frozenset.intersection(*(frozenset(nodes) for nodes in refused.values()))
    return {
        address: "; ".join(dict.fromkeys(nodes[address] for nodes in refused.values()))
        for address in common
    }


def table_targets(
    served: Served, now: Snapshot, refused: Refused, waiting: Container[IPAddress]
) -> Targets:
    """Return the nodes of every service; services that take the same nodes share one value.

    `waiting` are nodes that no service can have yet.
    """
    made: dict[tuple[Any, ...], tuple[tuple[str, float], ...]] = {}
    targets = {}
    records = [record for record in now.records if record.node.address not in waiting]
    for service_id, service in served.services.items():
        forwarder = served.forwarders[service.forwarder]
        any_family, stateful = forwarder.any_family, forwarder.stateful
        unroutable = refused.get(service.forwarder, {})
        key = (service.vip.version, service.nodes, any_family, service.forwarder)
        if key not in made:
            made[key] = eligible_nodes(
                service, records, unroutable, any_family=any_family, stateful=stateful
            )
        targets[service_id] = made[key]
    return targets
