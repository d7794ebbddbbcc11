# SPDX-License-Identifier: Apache-2.0
"""The composition root of `galelb run`: nested nurseries are the order of start and stop."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import structlog
import trio

from galelb.api.server import ApiServer
from galelb.attacher import Attacher, TcWantedError
from galelb.balancer_view import RunningView
from galelb.config_digest import digest as config_digest
from galelb.controller import Controller, Served
from galelb.datapath import Generation, KernelDataPath, LoadRequest
from galelb.errors import ConfigError
from galelb.health import HealthSettings, NodeHealth
from galelb.host import host_view
from galelb.identity import Numbering
from galelb.interfaces import InterfaceWatch, wanted_interfaces
from galelb.kernel_events import ProgramEvents
from galelb.limits import MAX_NODES, MAX_SERVICES, limits_for
from galelb.netlink import Netlink, open_netlink
from galelb.next_hops import NextHopTable
from galelb.nodes import NodeDesk
from galelb.resolver import NodeResolver
from galelb.saver import StateSaver
from galelb.services import resolve_services, service_key
from galelb.sources import BalancerContext
from galelb.state import SavedState, load_state
from galelb.table_keeper import TableKeeper, TableSettings

if TYPE_CHECKING:
    from galelb.component import Component
    from galelb.config import BalancerConfig
    from galelb.forwarder import Forwarder, HostView
    from galelb.model import Interface, IPAddress, NextHop, Node, Service
    from galelb.plugins import Plugins

__all__ = ["Balancer"]

log = structlog.get_logger("galelb.balancer")

_MAX_PLAIN_MTU = 3498
"""Above this, native XDP needs programs that declare fragment support (one page per frame)."""


class Balancer:
    """One balancer: build it, then `run` it until `stop` is set.

    Nothing blocks the trio thread: compiling and map writes happen in worker threads, netlink
    in a thread of its own.
    """

    def __init__(
        self,
        config: BalancerConfig,
        plugins: Plugins,
        *,
        pin_dir: Path,
        detach_on_exit: bool = False,
    ) -> None:
        self.config = config
        self.plugins = plugins
        self.stop = trio.Event()
        self.directory = config.instance.directory
        self._detach_on_exit = detach_on_exit
        self._state = load_state(self.directory)
        self._service_ids = Numbering("service", MAX_SERVICES, self._state.services)
        self._node_numbers = Numbering("node", MAX_NODES, self._state.nodes)
        self._datapath = KernelDataPath(pin_dir, self.directory / "cache")
        self._next_hops = NextHopTable(limits_for((), config.forwarding.table_size).max_next_hops)
        self._health = NodeHealth(_health_settings(config), max_nodes=MAX_NODES)
        plugins.configure(config)
        self._tables = TableKeeper(plugins, _table_settings(config))
        self._controller = Controller(
            health=self._health,
            nodes=self._node_numbers,
            next_hops=self._next_hops,
            tables=self._tables,
        )
        self._saver = StateSaver(self.directory, self._snapshot)
        self._desk = NodeDesk(
            self._health, plugins, on_change=self._changed, on_join=self._watch_node
        )
        self._resolver: NodeResolver | None = None
        self._attacher: Attacher | None = None
        self._ready = False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until stopped; `started` once it forwards. Raises GaleError when it cannot start."""
        async with open_netlink() as netlink:
            try:
                async with trio.open_nursery() as core:
                    await self._start(core, netlink)
                    await self._serve_edge(netlink, task_status)
                    core.cancel_scope.cancel()
            finally:
                with trio.CancelScope(shield=True):
                    await self._end()

    # start

    async def _start(self, core: trio.Nursery, netlink: Netlink) -> None:
        """Everything inside: nodes known, programs loaded and filled, then attached."""
        private = await netlink.interface(self.config.private_interface.net_interface_private)
        public = await netlink.interface(self.config.public_interface.net_interface_public)
        host = host_view(private, public, self._state.flow_seed)
        services = self._number(resolve_services(self.config, public))
        forwarders = self._forwarders(services, host)
        self._adopt()
        async with trio.open_nursery() as loading:
            request = await self._request(netlink, services, forwarders, host)
            loaded: list[Generation] = []
            loading.start_soon(self._load, request, loaded.append)
            await self._start_resolver(core, netlink)
        await self._go_live(netlink, loaded[0])
        await self._start_core(core, netlink, host)

    async def _load(self, request: LoadRequest, done: Callable[[Generation], None]) -> None:
        done(await trio.to_thread.run_sync(self._datapath.load, request))

    async def _go_live(self, netlink: Netlink, generation: Generation) -> None:
        """Fill the maps, then attach; compile for TC too if an interface turns out to need it."""
        await self._fill(generation)
        attacher = self._attacher = self._attacher or self._make_attacher(netlink)
        try:
            await attacher.attach_all(generation.entries)
        except TcWantedError as error:
            log.info("compiling_for_tc", interface=error.interface, reason=str(error))
            request = attrs.evolve(generation.request, tc=True)
            generation = await trio.to_thread.run_sync(self._datapath.load, request)
            await self._fill(generation)
            await attacher.attach_all(generation.entries)
        await trio.to_thread.run_sync(self._datapath.forget_older)
        await self._saver.save()

    def _make_attacher(self, netlink: Netlink) -> Attacher:
        return Attacher(
            netlink,
            self.plugins,
            xdp_mode=self.config.forwarding.xdp_mode,
            wanted=wanted_interfaces(self.config),
            earlier=self._state.attachments,
        )

    async def _fill(self, generation: Generation) -> None:
        """Make the maps of a generation say what is known, before any packet meets them."""
        self._datapath.use(generation)
        slots = generation.maps["gale_slots"]
        same = self._state.slots_pin == generation.pin_name("gale_slots")
        self._tables.use(slots.mmap(), slots.max_entries, self._state.tables if same else {})
        request = generation.request
        known = self._service_ids.known().values()
        await self._controller.serve(
            Served(
                services=request.services,
                forwarders=request.forwarders,
                host=request.host,
                maps=generation.maps,
                retired=tuple(
                    n
                    for n in known
                    if n not in request.services and n < request.limits.max_services
                ),
            )
        )

    def _number(self, services: tuple[Service, ...]) -> dict[int, Service]:
        return {self._service_ids.number(service_key(s)): s for s in services}

    def _forwarders(self, services: Mapping[int, Service], host: HostView) -> dict[str, Forwarder]:
        """Return the forwarders in use. Raises ConfigError with what they object to."""
        forwarders: dict[str, Forwarder] = {}
        problems: list[str] = []
        for name in sorted({service.forwarder for service in services.values()}):
            forwarder = self.plugins.forwarder(name)(self.config.plugins[name])
            mine = [s for s in services.values() if s.forwarder == name]
            problems += [f"{self.config.path}: {text}" for text in forwarder.check(mine, host)]
            forwarders[name] = forwarder
        if problems:
            raise ConfigError(problems)
        return forwarders

    def _adopt(self) -> None:
        """Take up what an earlier run knew, so that tables are never written empty."""
        now = trio.current_time()
        if self._state.next_hops:
            self._next_hops.restore(self._state.next_hops)
        self._health.restore(self._state.health, now)
        self._health.take_changes()

    async def _start_resolver(self, core: trio.Nursery, netlink: Netlink) -> None:
        self._resolver = NodeResolver(
            netlink,
            self._next_hops,
            on_change=self._resolved,
            on_next_hops=self._controller.wake,
        )
        for section in self.config.nodes:
            self._desk.add_static(section.node())
        for record in self._health.records():
            self._watch_node(record.node)
        await core.start(self._resolver.run)

    async def _request(
        self,
        netlink: Netlink,
        services: Mapping[int, Service],
        forwarders: Mapping[str, Forwarder],
        host: HostView,
    ) -> LoadRequest:
        present = await netlink.interfaces()
        wanted = wanted_interfaces(self.config)
        mtus = [present[name].mtu for name in wanted if name in present]
        return LoadRequest(
            services=services,
            forwarders=forwarders,
            host=host,
            limits=limits_for(services, self.config.forwarding.table_size),
            table_seed=self.config.forwarding.table_seed,
            tc=self._may_need_tc(forwarders, wanted),
            frags=max(mtus, default=0) > _MAX_PLAIN_MTU,
        )

    def _may_need_tc(self, forwarders: Mapping[str, Forwarder], wanted: Mapping[str, str]) -> bool:
        """TC costs start time, so it is compiled only when the configuration asks for it."""
        if not all(forwarder.supports_tc for forwarder in forwarders.values()):
            return False
        return (
            self.config.forwarding.xdp_mode == "tc"
            or "extra" in wanted.values()
            or any(forwarder.needs_tc_egress for forwarder in forwarders.values())
        )

    async def _start_core(self, core: trio.Nursery, netlink: Netlink, host: HostView) -> None:
        """Start what keeps maps true; it outlives everything that talks to the outside."""
        assert self._attacher is not None
        assert self._resolver is not None
        components: list[Component] = [
            self._controller,
            self._saver,
            self._desk,
            ProgramEvents(
                self._datapath.events,
                self._next_hops,
                unresolved=self._resolver.wake,
                changed=self._controller.wake,
            ),
            InterfaceWatch(
                netlink,
                self._attacher,
                lambda: self._datapath.generation.entries,
                self._saver.wake,
            ),
        ]
        for forwarder in self._controller.served.forwarders.values():
            components += forwarder.components(self._datapath, host)
        for component in components:
            await core.start(component.run)

    # run

    async def _serve_edge(self, netlink: Netlink, task_status: trio.TaskStatus[None]) -> None:
        """Run health sources and the API until asked to stop."""
        private = await netlink.interface(self.config.private_interface.net_interface_private)
        async with trio.open_nursery() as edge:
            await edge.start(self._api(private).run)
            context = self._context(private)
            for name in self.config.node_health.sources:
                source = self.plugins.health_source(name)(self.config.plugins[name], context)
                await edge.start(source.run)
            for name, service in self.plugins.services().items():
                if name in self.config.plugins:
                    await edge.start(service(self.config.plugins[name], context).run)
            self.plugins.started()
            task_status.started()
            self._ready = True
            log.info("ready", instance=self.config.instance.name, adopted=self._state.adopted)
            await self.stop.wait()
            self.plugins.stopping()
            edge.cancel_scope.cancel()

    def _api(self, private: Interface) -> ApiServer:
        assert self._attacher is not None
        served = self._controller.served
        notes = [
            note
            for name, forwarder in served.forwarders.items()
            for note in forwarder.notes(
                [s for s in served.services.values() if s.forwarder == name], served.host
            )
        ]
        for note in notes:
            log.info("note", text=note)
        view = RunningView(
            config=self.config,
            plugin_set=self.plugins,
            controller=self._controller,
            datapath=self._datapath,
            interfaces=self._attacher.statuses,
            changed=self._desk.settle,
            version=importlib.metadata.version("galelb"),
            config_digest=config_digest(self.config),
            notes=tuple(notes),
            adopted=self._state.adopted,
        )
        return ApiServer(
            view,
            addresses=private.addresses,
            port=self.config.private_interface.api_port,
            directory=self.directory,
            ifindex=private.ifindex,
        )

    def _context(self, private: Interface) -> BalancerContext:
        return BalancerContext(
            config=self.config,
            private_addresses=private.addresses,
            report=self._desk.report,
            node_gone=self._desk.lost,
            nodes=self._health.records,
        )

    # what others tell us

    def _changed(self) -> None:
        self._controller.wake()
        self._saver.wake()

    def _watch_node(self, node: Node) -> None:
        if self._resolver is not None:
            self._resolver.watch(node.address, node.mac)

    def _resolved(self, address: IPAddress, hop: NextHop | None, mac: str | None) -> None:
        del hop  # the next hop table is bound to it already
        self._desk.neighbour(address, mac)
        self._controller.wake()

    # end

    async def _end(self) -> None:
        """Save; programs stay attached and forward on, unless asked otherwise or never ready."""
        half_started = not self._ready and not self._state.adopted
        if self._attacher is not None and (self._detach_on_exit or half_started):
            await self._attacher.detach_all()
        elif self._attacher is not None:
            log.info("still_forwarding", hint="galelb detach removes programs and maps")
        if self._datapath.loaded:
            await self._saver.save()
        self._datapath.close()

    def _snapshot(self) -> SavedState:
        return SavedState(
            services=self._service_ids.known(),
            nodes=self._node_numbers.known(),
            health=self._health.snapshot(trio.current_time()),
            next_hops=self._next_hops.snapshot(),
            attachments=self._attacher.attachments() if self._attacher else (),
            flow_seed=self._state.flow_seed,
            tables=self._tables.regions(),
            slots_pin=self._datapath.generation.pin_name("gale_slots"),
        )


def _health_settings(config: BalancerConfig) -> HealthSettings:
    section = config.node_health
    return HealthSettings(
        checks_before_routing=section.checks_before_routing,
        checks_timeout=section.checks_timeout,
        black_list_after_fails=section.black_list_after_fails,
        black_list_expiry=section.black_list_expiry,
    )


def _table_settings(config: BalancerConfig) -> TableSettings:
    section = config.forwarding
    return TableSettings(
        size=section.table_size, seed=section.table_seed, scheduler=section.scheduler
    )
