# SPDX-License-Identifier: Apache-2.0
"""Turns what the balancer knows of its nodes into the content of maps, whenever that changes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from typing import TYPE_CHECKING

import structlog
import trio

from galelb.control.identity import Numbering
from galelb.control.numbers import RETRY_S, NodeNumbers
from galelb.control.planning import NO_SERVICE, service_leaf
from galelb.control.served import Served
from galelb.control.snapshot import Refused, Snapshot, Targets, refused_by_all, table_targets
from galelb.control.writing import Writing
from galelb.errors import GaleError
from galelb.forwarder import ForwardingView
from galelb.health import NodeHealth
from galelb.metrics import Histogram
from galelb.model import IPAddress, Service
from galelb.resolve.next_hops import NextHopChanges, NextHopTable
from galelb.tables.keeper import TableKeeper

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from galelb.model import NodeRecord

__all__ = ["Controller", "Served"]

log = structlog.get_logger("galelb.controller")


async def _forget_nothing() -> None:
    """Stand in for saving the state."""
    await trio.lowlevel.checkpoint()


class Controller:
    """Owns the way from records to maps; everything it does is idempotent.

    `wake` asks for a new plan; `run` makes one plan at a time, with all that changed meanwhile.
    `remember` saves the state: a number must be on disk before any flow can hold it. `planned`
    is called whenever maps hold what was planned; it must not block.
    """

    def __init__(
        self,
        *,
        health: NodeHealth,
        nodes: Numbering,
        next_hops: NextHopTable,
        tables: TableKeeper,
        remember: Callable[[], Awaitable[None]] = _forget_nothing,
        planned: Callable[[], None] = lambda: None,
    ) -> None:
        self.health = health
        self.nodes = nodes
        self.next_hops = next_hops
        self.tables = tables
        self.unroutable: Mapping[IPAddress, str] = {}
        self.plans = 0
        self.plan_failures = 0
        self.plan_times = Histogram()
        """How long changes took to be in the maps."""
        self.gateway_of: Callable[[IPAddress], IPAddress | None] = lambda _: None
        """Returns the router on the way to a node, as far as it is known."""
        self.remember = remember
        self._planned = planned
        self._numbers = NodeNumbers(nodes)
        self._writing = Writing()
        self._served: Served | None = None
        self._lock = trio.Lock()
        self._wanted = trio.Event()
        self._wanted_since: float | None = None
        self._incomplete = False
        self._refused: Refused = {}

    @property
    def served(self) -> Served:
        """What is served; only after `serve`."""
        if self._served is None:
            raise GaleError("the balancer serves nothing yet")
        return self._served

    def wake(self) -> None:
        """Ask for a new plan soon; cheap, never blocks."""
        if self._wanted_since is None:
            self._wanted_since = time.perf_counter()
        self._wanted.set()

    async def serve(
        self, served: Served, switch: Callable[[], Awaitable[None]] = _forget_nothing
    ) -> None:
        """Serve this from now on: fill its maps completely before returning.

        `switch` is awaited first, while no plan is under way: it goes over to other maps.
        """
        async with self._lock:
            await switch()
            self._served = served
            self._writing.forget()
            for service_id in served.retired:
                self.tables.drop(service_id)
            await self.remember()
            await self._plan(self.next_hops.all_entries())

    @contextlib.asynccontextmanager
    async def between_plans(self) -> AsyncIterator[None]:
        """Keep plans waiting, to change what they are made with."""
        async with self._lock:
            yield

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Plan whenever woken; a plan that fails is logged and made whole when next woken."""
        task_status.started()
        while True:
            with trio.move_on_after(RETRY_S if self._numbers.waiting else float("inf")):
                await self._wanted.wait()
            self._wanted = trio.Event()
            since, self._wanted_since = self._wanted_since, None
            async with self._lock:
                try:
                    await self._plan(self._changed_hops())
                    if since is not None:
                        self.plan_times.observe(time.perf_counter() - since)
                except GaleError as error:
                    self._incomplete = True
                    self.plan_failures += 1
                    log.error("plan_failed", reason=str(error))  # noqa: TRY400 - for users

    def _changed_hops(self) -> NextHopChanges:
        """Return the next hops to write: all of them when the last plan broke off."""
        if not self._incomplete:
            return self.next_hops.entries()
        self._incomplete = False
        self._writing.forget()
        return self.next_hops.all_entries()

    def view(self, forwarder: str | None = None) -> ForwardingView:
        """Return services and nodes by number, of one forwarder or of all."""
        return self._snapshot(self.health.records()).view(self.served, forwarder)

    def _snapshot(self, records: Sequence[NodeRecord]) -> Snapshot:
        return Snapshot(
            records=records,
            numbers=self.nodes.known(),
            next_hops=self.next_hops.bound(),
            gateways={r.node.address: self.gateway_of(r.node.address) for r in records},
        )

    async def _plan(self, hops: NextHopChanges) -> None:
        """Write in the order in which programs follow.

        That is next hops, nodes, the forwarders' own maps, lookup tables, services. Everything
        is read here and only computed and written in worker threads.
        """
        self.plans += 1
        records = self.health.records()
        await self._number([record.node.address for record in records])
        now = self._snapshot(records)
        refused = await trio.to_thread.run_sync(self._writing.nodes, self.served, now, hops)
        self._tell_refused(refused)
        self.unroutable = {**refused_by_all(refused), **self._numbers.waiting}
        targets = await trio.to_thread.run_sync(
            table_targets, self.served, now, refused, self._numbers.waiting
        )
        await self._update_tables(targets, now)
        await trio.to_thread.run_sync(self._write_services, self.served.services)
        self.tables.plan_done(trio.current_time())
        self._planned()

    def _tell_refused(self, refused: Refused) -> None:
        """Log nodes that a forwarder has come to refuse: others may still reach them."""
        for name, nodes in refused.items():
            for address in nodes.keys() - self._refused.get(name, {}).keys():
                log.warning(
                    "node_refused", node=str(address), forwarder=name, reason=nodes[address]
                )
        self._refused = refused

    async def _number(self, addresses: Collection[IPAddress]) -> None:
        """Have a number for every node, taken back from one that is gone if there is no other."""
        if candidates := self._numbers.absent(addresses, trio.current_time()):
            release = self._writing.release_nodes
            released = await trio.to_thread.run_sync(release, self.served, candidates)
            self._numbers.take_back(released)
        if self._numbers.number(addresses):
            await self.remember()

    async def _update_tables(self, targets: Targets, now: Snapshot) -> None:
        """Bring every table up to date.

        When so many change that the new ones do not fit beside the old ones, services go over to
        those that are ready.
        """
        ready: dict[int, Service] = {}
        for service_id, service in self.served.services.items():
            if self.tables.crowded:
                await trio.to_thread.run_sync(self._write_services, ready)
                self.tables.release_replaced(trio.current_time())
            await self.tables.update(service_id, service, targets[service_id], now.numbers)
            await trio.lowlevel.checkpoint()  # let others run: there may be hundreds of services
            ready[service_id] = service

    def _write_services(self, services: Mapping[int, Service]) -> None:
        leaves: list[tuple[int, Mapping[str, Any]]] = []
        for service_id, service in services.items():
            table = self.tables.table(service_id)
            leaves.append((service_id, service_leaf(service, table.first if table else None)))
        leaves += [(service_id, NO_SERVICE) for service_id in self.served.retired]
        self._writing.services(self.served, leaves)
