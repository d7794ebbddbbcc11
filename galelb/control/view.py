# SPDX-License-Identifier: Apache-2.0
"""What the API sees of a running balancer."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

import attrs
import trio

from galelb.api.paging import page_of
from galelb.api.view import (
    CaptureStream,
    CaptureWish,
    ConfigStatus,
    Count,
    FlowKey,
    FlowPage,
    GroupStatus,
    InterfaceStatus,
    NodeStatus,
    PeerStatus,
    PluginStatus,
    ServiceStatus,
    Status,
    UnknownNodeError,
)
from galelb.config.redaction import redact
from galelb.config.shared import digest as config_digest
from galelb.config.show import show_config
from galelb.control import metric_families as family
from galelb.control.counters import Counters, read_counters
from galelb.control.host_notes import address_notes, veth_notes
from galelb.control.metrics import (
    build_metrics,
    build_times,
    forwarder_metrics,
    interface_metrics,
    node_metrics,
    peer_metrics,
    process_metrics,
    table_facts,
    table_metrics,
    traffic_metrics,
)
from galelb.control.serving import not_ready
from galelb.control.work import Work
from galelb.model import Flow, IPAddress, Metric, NodeRecord, Peer, XdpMode

if TYPE_CHECKING:
    from galelb.api.events import EventLog
    from galelb.capture.recorder import Recorder
    from galelb.config import BalancerConfig
    from galelb.control.controller import Controller
    from galelb.datapath.programs import KernelDataPath
    from galelb.group.membership import Membership
    from galelb.plugins import Plugins

__all__ = ["RunningView"]

_MAX_FLOWS = 2_000_000


@attrs.define
class RunningView:
    """Implements `galelb.api.view.BalancerView` on the parts of a running balancer."""

    config: BalancerConfig
    plugin_set: Plugins
    controller: Controller
    datapath: KernelDataPath
    interfaces: Callable[[], tuple[InterfaceStatus, ...]]
    changed: Callable[[], None]
    """Called after an operator changed something."""
    version: str
    recorder: Recorder
    work: Work
    """What the balancer's parts tell of their own work."""
    source_notes: Callable[[], Sequence[str]] = tuple
    """Returns what the health sources say at present."""
    membership: Membership | None = None
    remember: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
    """Saves the state: what an operator was told to be done survives whatever comes."""
    adopted: bool = False
    started_at: float = attrs.Factory(time.time)
    _digest: str = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.use(self.config)

    @property
    def events(self) -> EventLog:
        """What happened, and happens."""
        return self.work.chronicle.events

    def use(self, config: BalancerConfig) -> None:
        """Tell of another configuration, after a reload."""
        self.config = config
        self._digest = config_digest(config)

    async def status(self) -> Status:
        """Return the balancer in one value."""
        served, records = self.controller.served, self.controller.health.records()
        counters = await self._counters()
        return Status(
            version=self.version,
            instance=self.config.instance.name,
            pid=os.getpid(),
            started_at=self.started_at,
            uptime_s=time.time() - self.started_at,
            plugins=tuple(plugin.name for plugin in await self.plugins()),
            interfaces=self.interfaces(),
            services=len(served.services),
            services_routable=sum(
                self.controller.tables.table(number) is not None for number in served.services
            ),
            nodes=len(records),
            nodes_routable=sum(self._unroutable(record) == "" for record in records),
            flows=sum(one.flow_count() for one in served.forwarders.values()),
            reasons=counters.reasons(),
            notes=(
                *(() if self.membership is None else self.membership.notes()),
                *served.notes(),
                *self.source_notes(),
                *self._host_notes(counters.reasons()),
            ),
            config_digest=self._digest,
            adopted=self.adopted,
            event_loop_lag_s=self.work.lag.worst,
        )

    def _host_notes(self, reasons: Mapping[str, Count]) -> tuple[str, ...]:
        served = self.controller.served
        ours = (served.host.public, served.host.private)
        native = {one.name for one in self.interfaces() if one.mode is XdpMode.NATIVE}
        # Nodes answer clients past a balancer whose forwarders claim no answers.
        relays = any(forwarder.claims_returns for forwarder in served.forwarders.values())
        unanswered = relays and "forwarded" in reasons and "returned" not in reasons
        notes = veth_notes(ours, native) if unanswered else []
        if self.recorder.capturing:
            notes.append("a capture runs, which makes each packet take a little longer")
        if self.config.announce.plugin is None:
            notes += address_notes(ours, served.services.values())
        return tuple(notes)

    async def ready(self) -> str:
        """Return why the balancer cannot serve clients now, or "" when it can."""
        return not_ready(self.controller, self.interfaces())

    async def nodes(self) -> tuple[NodeStatus, ...]:
        """Return all nodes in the order in which they joined."""
        counters = await self._counters()
        numbers, now = self.controller.nodes, trio.current_time()
        health = self.controller.health
        statuses = []
        for record in health.records():
            index = numbers.number(str(record.node.address))
            statuses.append(
                NodeStatus(
                    record=record,
                    index=index,
                    # It may have joined while the others' counters were read.
                    count=counters.by_node.get(index, Count()),
                    unroutable=self._unroutable(record),
                    words=health.words(record.node.address, now),
                    weight_from=health.weight_from(record.node.address),
                    load=health.load(record.node.address),
                )
            )
        return tuple(statuses)

    async def services(self) -> tuple[ServiceStatus, ...]:
        """Return all services in the order of the configuration."""
        counters = await self._counters()
        statuses = []
        for number, service in self.controller.served.services.items():
            table = self.controller.tables.table(number)
            statuses.append(
                ServiceStatus(
                    service=service,
                    id=number,
                    table_digest=table.digest if table else "",
                    routable_nodes=len(table.spec.nodes) if table else 0,
                    count=counters.forwarded(number),
                    drops=counters.drops(number),
                )
            )
        return tuple(statuses)

    async def flows(
        self,
        *,
        service: str | None = None,
        node: IPAddress | None = None,
        client: IPAddress | None = None,
        state: str | None = None,
        limit: int = 100,
        offset: int = 0,
        after: FlowKey | None = None,
    ) -> FlowPage:
        """Return a page of the flows that match all given filters."""

        def matches(flow: Flow) -> bool:
            return (
                service in (None, flow.service)
                and node in (None, flow.node)
                and client in (None, flow.client)
                and state in (None, flow.state)
            )

        def collect() -> FlowPage:
            return page_of(filter(matches, flows), limit=limit, offset=offset, after=after)

        flows = self._flows()
        return await trio.to_thread.run_sync(collect)

    async def peers(self) -> tuple[PeerStatus, ...]:
        """Return the configured peers, and others that were heard; a lone balancer hears none."""
        if self.membership is not None:
            return self.membership.peers()
        return tuple(
            PeerStatus(
                peer=Peer(address=peer.ip, port=peer.port), note="no sync transport is configured"
            )
            for peer in self.config.load_balancer_quorum.addresses
        )

    async def group(self) -> GroupStatus | None:
        """Return this balancer's place in its group."""
        return None if self.membership is None else self.membership.status()

    async def plugins(self) -> tuple[PluginStatus, ...]:
        """Return the plugins in use."""
        return tuple(
            PluginStatus(
                name=info.name, version=info.version, package=info.package, kinds=info.kinds
            )
            for info in self.plugin_set.infos()
            if info.name in self.config.plugins
        )

    async def configuration(self) -> ConfigStatus:
        """Return the configuration in force, without secrets."""
        return await trio.to_thread.run_sync(_config_status, self.config, self._digest)

    async def drain(self, address: IPAddress, *, on: bool) -> NodeRecord:
        """Stop (or resume) new flows to a node. Raises UnknownNodeError."""
        self._require(address)
        self.controller.health.drain(address, on, trio.current_time())
        return await self._decided(address)

    async def set_weight(self, address: IPAddress, weight: int | None) -> NodeRecord:
        """Override a node's weight, None = its own. Raises UnknownNodeError."""
        self._require(address)
        self.controller.health.set_weight(address, weight, trio.current_time())
        return await self._decided(address)

    async def metrics(self) -> Sequence[Metric]:
        """Return every sample: of the core, of forwarders and of other plugins."""
        few = [
            family.READY.sample(not await self.ready()),
            family.CAPTURING.sample(self.recorder.capturing),
            *build_metrics(self.version, self._digest),
            *self.work.metrics(self.controller),
            *interface_metrics(self.interfaces()),
            *peer_metrics(await self.peers()),
            *(() if self.membership is None else self.membership.metrics()),
            *self.plugin_set.metrics(),
        ]
        return few + await trio.to_thread.run_sync(self._many_metrics())

    def capture(self, wish: CaptureWish) -> AbstractAsyncContextManager[CaptureStream]:
        """Capture packets while the context lasts."""
        return self.recorder.open(wish)

    # inside

    async def _decided(self, address: IPAddress) -> NodeRecord:
        """Spread and save what an operator changed, here and in the group."""
        self.changed()
        record = self._require(address)
        if self.membership is not None:
            self.membership.decide(
                address, draining=record.operator_draining, weight=record.operator_weight
            )
        await self.remember()
        return record

    def _require(self, address: IPAddress) -> NodeRecord:
        record = self.controller.health.get(address)
        if record is None:
            known = [str(one.node.address) for one in self.controller.health.records()]
            raise UnknownNodeError(str(address), known)
        return record

    def _unroutable(self, record: NodeRecord) -> str:
        if record.node.address in self.controller.unroutable:
            return self.controller.unroutable[record.node.address]
        if record.takes_new_flows:
            return ""
        if not record.routable:
            return record.reason or record.state.value
        if record.draining:
            return "draining"
        if record.neighbour is None:
            return "its link-layer address is not resolved yet"
        return "weight 0"

    async def _counters(self) -> Counters:
        numbers = self.controller.nodes
        nodes = [numbers.number(str(r.node.address)) for r in self.controller.health.records()]
        served = self.controller.served
        return await trio.to_thread.run_sync(
            read_counters, served.maps, tuple(served.services), nodes
        )

    def _flows(self) -> Iterator[Flow]:
        """Return an iterator to be used up in a worker thread; views are taken here."""
        served = self.controller.served
        views = {name: self.controller.view(name) for name in served.forwarders}
        return itertools.chain.from_iterable(
            served.forwarders[name].flows(self.datapath, view, limit=_MAX_FLOWS)
            for name, view in views.items()
        )

    def _many_metrics(self) -> Callable[[], list[Metric]]:
        """Return what makes the metrics of which there may be thousands, off the trio thread."""
        served, records = self.controller.served, self.controller.health.records()
        number = self.controller.nodes.number
        addresses = {number(str(r.node.address)): str(r.node.address) for r in records}
        taking = [record for record in records if self._unroutable(record) == ""]
        tables = table_facts(served.services, self.controller.tables)
        builds = build_times(self.controller.tables)

        def make() -> list[Metric]:
            counters = read_counters(served.maps, tuple(served.services), addresses)
            return [
                *traffic_metrics(counters, served.services, addresses),
                *node_metrics(records, taking),
                *table_metrics(tables),
                *builds,
                *forwarder_metrics(served.forwarders, self.datapath),
                *process_metrics(),
            ]

        return make


def _config_status(config: BalancerConfig, digest: str) -> ConfigStatus:
    settings: dict[str, Any] = redact(config.model_dump(mode="json", exclude={"path"}))
    return ConfigStatus(
        path=str(config.path), digest=digest, settings=settings, toml=show_config(config)
    )
