# SPDX-License-Identifier: Apache-2.0
"""The composition root of `galelb run`: nested nurseries are the order of start and stop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import structlog
import trio

from galelb.config.shared import digest as config_digest
from galelb.control.chronicle import Chronicle
from galelb.control.controller import Controller
from galelb.control.forwarder_work import ForwarderWork
from galelb.control.identity import Numbering
from galelb.control.lag import LoopLag
from galelb.control.nodes import NodeDesk
from galelb.control.reload import fixed_changes
from galelb.control.saver import StateSaver
from galelb.control.settings import health_settings, in_group, table_settings
from galelb.control.sources import HealthSources, checkers, source_context, start_services
from galelb.control.state import SavedState, load_state
from galelb.datapath.deployment import Deployment
from galelb.datapath.events import ProgramEvents
from galelb.datapath.interfaces import InterfaceWatch
from galelb.datapath.limits import MAX_KNOWN_NODES, MAX_NODES, MAX_SERVICES, limits_for
from galelb.datapath.machine import cache_folder, machine_seed, state_folder
from galelb.datapath.programs import Generation, KernelDataPath
from galelb.errors import ConfigError, GaleError
from galelb.grpc.signal import Signal
from galelb.health import NodeHealth
from galelb.netlink import Netlink, open_netlink
from galelb.resolve.next_hops import NextHopTable
from galelb.resolve.resolver import NodeResolver
from galelb.sources import BalancerContext
from galelb.tables.keeper import TableKeeper

if TYPE_CHECKING:
    from galelb.api.server import ApiServer
    from galelb.component import Component
    from galelb.config import BalancerConfig
    from galelb.control.view import RunningView
    from galelb.group.group import Group
    from galelb.model import Interface, IPAddress, NextHop, Node
    from galelb.plugins import Plugins

__all__ = ["Balancer"]

log = structlog.get_logger("galelb.balancer")


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
        self._state = _known_state(self.directory)
        self._service_ids = Numbering("service", MAX_SERVICES, self._state.services)
        self._node_numbers = Numbering("node", MAX_NODES, self._state.nodes)
        self._datapath = KernelDataPath(pin_dir, self.directory / "cache", cache_folder())
        self._next_hops = NextHopTable(limits_for((), config.forwarding.table_size).max_next_hops)
        self._health = NodeHealth(
            health_settings(config), max_nodes=MAX_KNOWN_NODES, checkers=checkers(config, plugins)
        )
        self._moved = Signal()  # of nodes, services and tables, for health sources
        self._chronicle = Chronicle(lambda node: self._health.get(node) is not None)
        plugins.watch(self._chronicle, "chronicle")
        self._lag = LoopLag()
        plugins.configure(config)
        self._tables = TableKeeper(plugins, table_settings(config))
        self._controller = Controller(
            health=self._health,
            nodes=self._node_numbers,
            next_hops=self._next_hops,
            tables=self._tables,
            remember=lambda: self._saver.save(),
            planned=self._planned,
        )
        self._saver = StateSaver(self.directory, self._snapshot)
        self._desk = NodeDesk(
            self._health,
            plugins,
            on_change=self._changed,
            on_join=self._watch_node,
            on_leave=self._forget_node,
        )
        self._sources: HealthSources | None = None
        self._resolver: NodeResolver | None = None
        self._view: RunningView | None = None
        self._deployment: Deployment | None = None
        self._work = ForwarderWork(
            self._controller, self._datapath, alone=config.load_balancer_quorum.transport is None
        )
        self._group: Group | None = None
        self._reloading = trio.Lock()
        self._ready = False
        self._starting = trio.CancelScope()

    def request_stop(self) -> None:
        """Stop; a start under way is given up, and then nothing of it stays."""
        self.stop.set()
        self._starting.cancel()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until stopped; `started` once it forwards. Raises GaleError when it cannot start."""
        async with open_netlink() as netlink:
            try:
                async with trio.open_nursery() as core:
                    with self._starting:
                        await self._start(core, netlink)
                    if not self._starting.cancelled_caught:
                        await self._serve_edge(netlink, task_status)
                    core.cancel_scope.cancel()
            except* GaleError as errors:
                # Who stops a whole group of processes stops the compiler too.
                if self._ready or not self.stop.is_set():
                    raise
                log.info("start_given_up", reason=str(errors.exceptions[0]))
            finally:
                with trio.CancelScope(shield=True):
                    await self._end()

    # start

    async def _start(self, core: trio.Nursery, netlink: Netlink) -> None:
        """Everything inside: nodes known, programs loaded and filled, then attached."""
        deployment = self._deployment = Deployment(
            plugins=self.plugins,
            datapath=self._datapath,
            controller=self._controller,
            service_ids=self._service_ids,
            adopted=self._state,
            netlink=netlink,
            config=self.config,
            carried=self._chronicle.flows_carried,
        )
        self._adopt()
        request = await deployment.prepare(self.config)
        loaded: list[Generation] = []
        async with trio.open_nursery() as loading:
            loading.start_soon(deployment.load, request, loaded.append)
            resolver = await self._start_resolver(core, netlink)
        with trio.CancelScope(shield=True):  # all interfaces or none
            await deployment.go_live(loaded[0])
            await self._saver.save()
        # Compiling took its time, and nodes cannot report yet: see also _serve_edge.
        self._health.renew_adoption(trio.current_time())
        await self._start_core(core, netlink, deployment, resolver)

    def _adopt(self) -> None:
        """Take up what an earlier run knew, so that tables are never written empty."""
        if self._state.next_hops:
            self._next_hops.restore(self._state.next_hops)
        for problem in self._health.restore(self._state.health, trio.current_time()):
            log.warning("node_not_adopted", reason=problem)
        self._health.take_changes()

    async def _start_resolver(self, core: trio.Nursery, netlink: Netlink) -> NodeResolver:
        resolver = self._resolver = NodeResolver(
            netlink,
            self._next_hops,
            on_change=self._resolved,
            on_next_hops=self._controller.wake,
        )
        self._controller.gateway_of = resolver.gateway
        for section in self.config.nodes:
            self._desk.add_static(section.node())
        for record in self._health.records():
            resolver.watch(record.node.address, record.node.mac)
        await core.start(resolver.run)
        return resolver

    async def _start_core(
        self,
        core: trio.Nursery,
        netlink: Netlink,
        deployment: Deployment,
        resolver: NodeResolver,
    ) -> None:
        """Start what keeps maps true; it outlives everything that talks to the outside."""
        components: list[Component] = [
            self._controller,
            self._saver,
            self._desk,
            self._lag,
            ProgramEvents(
                self._datapath.events,
                self._next_hops,
                unresolved=resolver.wake,
                changed=self._controller.wake,
            ),
            InterfaceWatch(netlink, deployment, self._saver.wake),
        ]
        for component in components:
            await core.start(component.run)
        await core.start(self._work.run)

    # reload

    async def reload(self, config: BalancerConfig) -> None:
        """Go on with another configuration; maps, flows and nodes stay.

        Raises GaleError, and nothing changed, when it cannot be used while running.
        """
        async with self._reloading:
            if self._deployment is None or not self._ready:
                raise GaleError("the balancer is still starting")
            if fixed := fixed_changes(self.config, config):
                raise ConfigError([f"{config.path}: {text}" for text in fixed])
            request = await self._deployment.prepare(config)
            generation = await self._deployment.load(request)
            await self._switch(self._deployment, generation, config)

    def refuse(self, reason: str) -> None:
        """Say that another configuration cannot be used; everything stays as it is."""
        log.error("not_reloaded", reason=reason)
        self._chronicle.not_reloaded(reason)

    async def _switch(
        self, deployment: Deployment, generation: Generation, config: BalancerConfig
    ) -> None:
        async with self._controller.between_plans():
            self.plugins.configure(config)
            self._tables.settings = table_settings(config)
        async with self._work.paused():
            self._desk.use_config(self.config, config)
            self.config = config
            await deployment.go_live(generation)
        for part in (self._view, self._group):
            if part is not None:
                part.use(config)
        if self._sources is not None:
            await self._sources.change(config)
        await self._saver.save()
        self._chronicle.reloaded(config_digest(config))
        log.info("reloaded", services=len(generation.request.services))

    # run

    async def _serve_edge(self, netlink: Netlink, task_status: trio.TaskStatus[None]) -> None:
        """Run health sources and the API until asked to stop."""
        private = await netlink.interface(self.config.private_interface.net_interface_private)
        await trio.to_thread.run_sync(_import_edge)
        async with trio.open_nursery() as edge:
            context = self._context(private)
            self._sources = HealthSources(self.plugins, self._desk, context)
            await self._join_group(edge, netlink, private)
            await edge.start(self._api(private, self._sources).run)
            await edge.start(self._sources.run)
            await self._sources.use(self.config)
            await start_services(edge, self.plugins, context)
            # Adopted nodes can report only from now on.
            self._health.renew_adoption(trio.current_time())
            self.plugins.started()
            task_status.started()
            self._ready = True
            self._chronicle.started(adopted=self._state.adopted)
            log.info("ready", instance=self.config.instance.name, adopted=self._state.adopted)
            await self.stop.wait()
            self.plugins.stopping()
            if self._group is not None:
                await self._group.leave()
            edge.cancel_scope.cancel()

    async def _join_group(self, edge: trio.Nursery, netlink: Netlink, private: Interface) -> None:
        if not in_group(self.config):
            return
        from galelb.group.start import start_group  # sockets and keys: no lone balancer needs them

        self._group = await start_group(
            edge,
            config=self.config,
            plugins=self.plugins,
            desk=self._desk,
            netlink=netlink,
            private=private,
            controller=self._controller,
            shares=lambda: self._work.shares,
            decisions=self._state.decisions,
        )

    def _api(self, private: Interface, sources: HealthSources) -> ApiServer:
        from galelb.control.edge import api_server, running_view

        assert self._deployment is not None
        self._view = running_view(
            config=self.config,
            plugins=self.plugins,
            controller=self._controller,
            datapath=self._datapath,
            deployment=self._deployment,
            reloading=self._reloading,
            desk=self._desk,
            sources=sources,
            chronicle=self._chronicle,
            lag=self._lag,
            adopted=self._state.adopted,
            membership=self._group,
            remember=self._saver.save,
        )
        return api_server(self._view, private)

    def _context(self, private: Interface) -> BalancerContext:
        assert self._deployment is not None
        return source_context(
            config=self.config,
            private=private,
            desk=self._desk,
            controller=self._controller,
            interfaces=self._deployment.attacher.statuses,
            hop=self._resolver_in_use.hop,
            changed=self._moved,
        )

    @property
    def _resolver_in_use(self) -> NodeResolver:
        assert self._resolver is not None
        return self._resolver

    # what others tell us

    def _changed(self) -> None:
        self._controller.wake()
        self._saver.wake()

    def _planned(self) -> None:
        self._moved.notify()
        if self._group is not None:
            self._group.planned()

    def _watch_node(self, node: Node) -> None:
        if self._resolver is not None:
            self._resolver.watch(node.address, node.mac)

    def _forget_node(self, node: Node) -> None:
        if self._resolver is not None:
            self._resolver.forget(node.address)

    def _resolved(self, address: IPAddress, hop: NextHop | None, mac: str | None) -> None:
        del hop  # the next hop table is bound to it already
        self._desk.neighbour(address, mac)
        self._controller.wake()

    # end

    async def _end(self) -> None:
        """Save; programs stay attached and forward on, unless asked otherwise or never ready."""
        half_started = not self._ready and not self._state.adopted
        if self._deployment is not None and (self._detach_on_exit or half_started):
            await self._deployment.attacher.detach_all()
        elif self._deployment is not None:
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
            **(self._deployment.saved() if self._deployment else {}),
            flow_seed=self._state.flow_seed,
            tables=self._tables.regions(),
            slots_pin=self._datapath.generation.pin_name("gale_slots"),
            decisions=self._group.decisions() if self._group else self._state.decisions,
        )


def _import_edge() -> None:
    """Import what no packet needs, only once packets are forwarded: it takes 0.1 s."""
    import galelb.control.edge  # noqa: F401


def _known_state(directory: Path) -> SavedState:
    """Return what was saved; an instance that is new hashes as the others of this machine do."""
    state = load_state(directory)
    return state if state.adopted else attrs.evolve(state, flow_seed=machine_seed(state_folder()))
