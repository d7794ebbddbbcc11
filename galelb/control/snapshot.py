# SPDX-License-Identifier: Apache-2.0
"""What one plan is made from, taken at one moment so that worker threads may compute with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from galelb.control.planning import NO_NODE, eligible_nodes, node_leaf
from galelb.control.served import Served
from galelb.forwarder import ForwardingView, PlannedNode
from galelb.model import IPAddress, NodeRecord, Service

__all__ = ["Snapshot", "Targets", "table_targets"]

Targets = Mapping[int, tuple[tuple[str, int], ...]]
"""(address, weight) of the nodes that each service's table shall name, sorted."""


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


def table_targets(
    services: Mapping[int, Service], now: Snapshot, unroutable: Mapping[IPAddress, str]
) -> Targets:
    """Return the nodes of every service; services that take the same nodes share one value."""
    made: dict[tuple[Any, ...], tuple[tuple[str, int], ...]] = {}
    targets = {}
    for service_id, service in services.items():
        key = (service.vip.version, service.nodes)
        if key not in made:
            made[key] = eligible_nodes(service, now.records, unroutable)
        targets[service_id] = made[key]
    return targets
