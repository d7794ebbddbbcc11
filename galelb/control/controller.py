# SPDX-License-Identifier: Apache-2.0
"""Turns what the balancer knows of its nodes into the content of maps, whenever that changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs
import structlog
import trio

from galelb.control.identity import Numbering
from galelb.control.map_writer import MapWriter
from galelb.control.planning import NO_NODE, NO_SERVICE, eligible_nodes, node_leaf, service_leaf
from galelb.errors import GaleError
from galelb.forwarder import BpfMap, Forwarder, ForwardingView, HostView, PlannedNode
from galelb.health import NodeHealth
from galelb.model import IPAddress, NodeRecord, Service
from galelb.resolve.next_hops import NextHopChanges, NextHopTable
from galelb.tables.keeper import TableKeeper

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Controller", "Served"]

log = structlog.get_logger("galelb.controller")


@attrs.frozen(kw_only=True)
class Served:
    """What is served at present: services by id, who forwards them, and where the maps are."""

    services: Mapping[int, Service]
    forwarders: Mapping[str, Forwarder]
    host: HostView
    maps: Mapping[str, BpfMap]
    retired: tuple[int, ...] = ()
    """Ids of services that are no longer served; their entries are cleared."""


class Controller:
    """Owns the way from records to maps; everything it does is idempotent.

    `wake` asks for a new plan; `run` makes one plan at a time, with all that changed meanwhile.
    """

    def __init__(
        self,
        *,
        health: NodeHealth,
        nodes: Numbering,
        next_hops: NextHopTable,
        tables: TableKeeper,
    ) -> None:
        self.health = health
        self.nodes = nodes
        self.next_hops = next_hops
        self.tables = tables
        self.unroutable: dict[IPAddress, str] = {}
        self.plans = 0
        self._writer = MapWriter()
        self._served: Served | None = None
        self._lock = trio.Lock()
        self._wanted = trio.Event()
        self._incomplete = False

    @property
    def served(self) -> Served:
        """What is served; only after `serve`."""
        if self._served is None:
            raise GaleError("the balancer serves nothing yet")
        return self._served

    def wake(self) -> None:
        """Ask for a new plan soon; cheap, never blocks."""
        self._wanted.set()

    async def serve(self, served: Served) -> None:
        """Serve this from now on: fill its maps completely before returning."""
        async with self._lock:
            self._served = served
            self._writer.forget()
            for service_id in served.retired:
                self.tables.drop(service_id)
            await self._plan(self.next_hops.all_entries())

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Plan whenever woken; a plan that fails is logged and made whole when next woken."""
        task_status.started()
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            async with self._lock:
                try:
                    await self._plan(self._changed_hops())
                except GaleError as error:
                    self._incomplete = True
                    log.error("plan_failed", reason=str(error))  # noqa: TRY400 - for users

    def _changed_hops(self) -> NextHopChanges:
        """Return the next hops to write: all of them when the last plan broke off."""
        if not self._incomplete:
            return self.next_hops.entries()
        self._incomplete = False
        self._writer.forget()
        return self.next_hops.all_entries()

    def view(self, forwarder: str | None = None) -> ForwardingView:
        """Return services and nodes by number, of one forwarder or of all."""
        served = self.served
        services = {
            number: service
            for number, service in served.services.items()
            if forwarder in (None, service.forwarder)
        }
        nodes = {
            number: PlannedNode(index=number, address=record.node.address)
            for number, record in self._numbered(self.health.records())
        }
        return ForwardingView(services=services, nodes=nodes, host=served.host)

    def _numbered(self, records: Sequence[NodeRecord]) -> list[tuple[int, NodeRecord]]:
        return [(self.nodes.number(str(record.node.address)), record) for record in records]

    def _forgotten(self, records: Sequence[NodeRecord]) -> list[tuple[int, Mapping[str, Any]]]:
        """Return empty leaves for nodes that are no more: programs then bypass their flows."""
        present = {str(record.node.address) for record in records}
        known = self.nodes.known().items()
        return [(number, NO_NODE) for address, number in known if address not in present]

    async def _plan(self, hops: NextHopChanges) -> None:
        """Write in the order in which programs follow.

        That is next hops, nodes, the forwarders' own maps, lookup tables, services. Everything
        is read here and only written in the worker thread.
        """
        self.plans += 1
        records = self.health.records()
        leaves: list[tuple[int, Mapping[str, Any]]] = [
            (number, node_leaf(record, self.next_hops.node_index(record.node.address)))
            for number, record in self._numbered(records)
        ] + self._forgotten(records)
        views = {name: self.view(name) for name in self.served.forwarders}
        self.unroutable = await trio.to_thread.run_sync(self._write_nodes, hops, leaves, views)
        await self._update_tables(records)
        await trio.to_thread.run_sync(self._write_services)
        self.tables.release_replaced(trio.current_time())

    def _write_nodes(
        self,
        hops: NextHopChanges,
        leaves: Sequence[tuple[int, Mapping[str, Any]]],
        views: Mapping[str, ForwardingView],
    ) -> dict[IPAddress, str]:
        maps = self.served.maps
        for key in hops.index_delete:
            maps["gale_next_hop_index"].delete(key)
        maps["gale_next_hops"].update(hops.next_hops)
        maps["gale_next_hop_index"].update(hops.index_set)
        self._writer.write(maps["gale_nodes"], leaves)
        unroutable: dict[IPAddress, str] = {}
        for name, view in views.items():
            unroutable |= self._write_forwarder(self.served.forwarders[name], view)
        return unroutable

    def _write_forwarder(self, forwarder: Forwarder, view: ForwardingView) -> dict[IPAddress, str]:
        for map_name, entries in forwarder.plan(view, self.served.maps).items():
            self._writer.write(self.served.maps[map_name], entries)
        reasons = forwarder.unroutable(view)
        return {view.nodes[number].address: reason for number, reason in reasons.items()}

    async def _update_tables(self, records: Sequence[NodeRecord]) -> None:
        index_of = {str(r.node.address): number for number, r in self._numbered(records)}
        for service_id, service in self.served.services.items():
            nodes = eligible_nodes(service, records, self.unroutable)
            await self.tables.update(service_id, service, nodes, index_of)

    def _write_services(self) -> None:
        leaves: list[tuple[int, Mapping[str, Any]]] = []
        for service_id, service in self.served.services.items():
            table = self.tables.table(service_id)
            leaves.append((service_id, service_leaf(service, table.first if table else None)))
        leaves += [(service_id, NO_SERVICE) for service_id in self.served.retired]
        self._writer.write(self.served.maps["gale_services"], leaves)
