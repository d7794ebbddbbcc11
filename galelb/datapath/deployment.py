# SPDX-License-Identifier: Apache-2.0
"""Puts the programs that a configuration asks for into the kernel, filled before attached."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import structlog
import trio

from galelb.abi import NO_TABLE
from galelb.bpf.maps import close_maps
from galelb.bpf.matching import service_keys
from galelb.control.controller import Controller, Served
from galelb.control.identity import Numbering
from galelb.datapath.attacher import Attacher, Entries, TcWantedError
from galelb.datapath.carrying import Carried
from galelb.datapath.flow_maps import FlowMaps, flow_maps_of, remembered, unremembered, with_former
from galelb.datapath.host import host_view
from galelb.datapath.interfaces import wanted_interfaces
from galelb.datapath.migration import Migration
from galelb.datapath.own_macs import write_own_macs
from galelb.datapath.programs import Generation, KernelDataPath, LoadRequest
from galelb.datapath.request import load_request
from galelb.errors import BpfError, GaleError
from galelb.plugins.blame import blamed
from galelb.services import resolve_services, service_key

if TYPE_CHECKING:
    from galelb.bpf.layout import MapLayout
    from galelb.config import BalancerConfig
    from galelb.control.state import SavedState
    from galelb.model import Service
    from galelb.netlink import Netlink
    from galelb.plugins import Plugins

__all__ = ["Deployment"]

log = structlog.get_logger("galelb.deployment")


class Deployment:
    """Loads and switches generations of programs; adopts what an earlier run left pinned.

    `prepare` and `load` change nothing that forwards; `go_live` switches.
    `carried` hears what became of flows whose maps changed their shape, with the reason if they
    are lost.
    """

    def __init__(
        self,
        *,
        plugins: Plugins,
        datapath: KernelDataPath,
        controller: Controller,
        service_ids: Numbering,
        adopted: SavedState,
        netlink: Netlink,
        config: BalancerConfig,
        carried: Callable[[Carried, str], None] = lambda _, __: None,
    ) -> None:
        self.datapath = datapath
        self.attacher = Attacher(
            netlink,
            plugins,
            xdp_mode=config.forwarding.xdp_mode,
            wanted=wanted_interfaces(config),
            earlier=adopted.attachments,
        )
        self._plugins = plugins
        self._controller = controller
        self._service_ids = service_ids
        self._adopted = adopted
        self._netlink = netlink
        self._capturing: Generation | None = None
        self._carried = carried
        self.flow_maps = self._adopted_flow_maps()
        """The maps that flows may be in, the newest first."""

    def _adopted_flow_maps(self) -> list[FlowMaps]:
        if not self._adopted.flow_maps:
            return []
        try:
            return remembered(self._adopted.flow_maps, self.datapath.pin_dir)
        except ValueError as error:
            log.error("flows_lost", reason=str(error))  # noqa: TRY400 - for users
            return []

    def saved(self) -> dict[str, Any]:
        """Return what the next start must know, as fields of SavedState."""
        return {
            "attachments": self.attacher.attachments(),
            "flow_maps": [one.to_saved() for one in self.flow_maps],
        }

    @property
    def entries(self) -> Entries:
        """The programs that interfaces shall run."""
        return (self._capturing or self.datapath.generation).entries

    async def prepare(self, config: BalancerConfig) -> LoadRequest:
        """Return what to load for a configuration. Raises ConfigError, NetlinkError."""
        private = await self._netlink.interface(config.private_interface.net_interface_private)
        public = await self._netlink.interface(config.public_interface.net_interface_public)
        grouped = config.load_balancer_quorum.transport is not None
        host = attrs.evolve(host_view(private, public, self._adopted.flow_seed), grouped=grouped)
        services = await self._numbered(resolve_services(config, public))
        present = await self._netlink.interfaces()
        request = load_request(self._plugins, config, services, host, present)
        tc = self.attacher.needs_tc and all(f.supports_tc for f in request.forwarders.values())
        return attrs.evolve(request, tc=request.tc or tc)

    async def _numbered(self, services: Sequence[Service]) -> dict[int, Service]:
        """Return services by id; ids run short only for who has changed services for years."""
        ids = self._service_ids
        if sum(ids.get(service_key(service)) is None for service in services) > ids.spare:
            held = await trio.to_thread.run_sync(self._held_services)
            former = [key for key, number in ids.known().items() if number not in held]
            log.info("service_ids_released", count=len(former))
            ids.release(former)
        return {ids.number(service_key(service)): service for service in services}

    def _held_services(self) -> Container[int]:
        """Return the ids that are served, or that flows still hold; blocks."""
        if not self.datapath.loaded:
            return range(self._service_ids.limit + 1)
        served = self._controller.served
        held = set(served.services)
        for name, forwarder in served.forwarders.items():
            with blamed(name, "held_services"):
                found = forwarder.held_services(served.maps)
                if found is None:
                    return range(self._service_ids.limit + 1)
                held.update(found)
        return held

    async def load(
        self, request: LoadRequest, done: Callable[[Generation], None] = lambda _: None
    ) -> Generation:
        """Compile and load in a worker thread. Raises CompileError, VerifierError, MapError."""
        await self._forget_unnumbered()
        generation = await trio.to_thread.run_sync(self.datapath.load, request)
        done(generation)
        return generation

    async def _forget_unnumbered(self) -> None:
        """Adopt no map without its state: the numbers in its entries would mean something else."""
        if self._adopted.adopted or self.datapath.loaded:
            return
        if count := await trio.to_thread.run_sync(self.datapath.forget_all):
            log.warning("pins_without_state", removed=count, effect="their flows are lost")

    async def go_live(self, generation: Generation) -> None:
        """Fill the maps, flows too if theirs are new ones, then attach."""
        now = flow_maps_of(generation)
        self._tell_unremembered(now)
        self.flow_maps = with_former(now, self.flow_maps)
        await self._fill(generation)
        migration = await self._bring_flows(generation, self.flow_maps[len(now) :])
        try:
            generation = await self._switch(generation, migration)
        except BaseException:
            with trio.CancelScope(shield=True):
                await migration.resume()
                await migration.close()
            raise
        await migration.finish()
        self.flow_maps = now
        await self._controller.remember()
        await trio.to_thread.run_sync(_drop_stale_keys, generation)
        await trio.to_thread.run_sync(self.datapath.forget_older, self._capturing)

    def _tell_unremembered(self, now: Sequence[FlowMaps]) -> None:
        """Say that flows are lost of a version that did not note where it had them."""
        if self.datapath.loaded or self._adopted.flow_maps:
            return
        for name in unremembered(now, self.datapath.pin_dir):
            why = "an older version left tables of another form"
            log.error("flows_lost", forwarder=name, reason=why)
            self._carried(Carried(forwarder=name), why)

    async def _bring_flows(self, generation: Generation, former: Sequence[FlowMaps]) -> Migration:
        """Copy flows to maps of another shape, while the former programs still forward."""
        migration = Migration(self._carried)
        for name, forwarder in generation.request.forwarders.items():
            if mine := [one for one in former if one.forwarder == name]:
                await migration.copy(
                    mine,
                    forwarder,
                    self.datapath,
                    self._controller.view(name),
                    generation.request.host,
                )
        return migration

    async def _switch(self, generation: Generation, migration: Migration) -> Generation:
        """Attach; compile for TC too if an interface turns out to need it."""
        try:
            await migration.hold()
            await self._attach(generation)
        except TcWantedError as error:
            await migration.resume()  # compiling takes too long to hold anybody up
            log.info("compiling_for_tc", interface=error.interface, reason=str(error))
            generation = await self.load(attrs.evolve(generation.request, tc=True))
            await self._fill(generation)
            await migration.hold()
            await self._attach(generation)
        return generation

    async def tell_own_macs(self) -> None:
        """Tell programs which frames are for this machine; they may have changed."""
        found = await self._netlink.interfaces()
        ours = [one for name, one in found.items() if self.attacher.wants(name)]
        maps = self.datapath.generation.maps
        await trio.to_thread.run_sync(write_own_macs, maps, ours)

    async def _attach(self, generation: Generation) -> None:
        """Attach a generation's programs, or such with its text that capture besides."""
        if self._capturing is not None:
            try:
                self._capturing = await self._load_capturing(generation)
            except BpfError as error:
                self._capturing = None  # what forwards comes first
                log.error("capture_given_up", reason=str(error))  # noqa: TRY400 - for users
        await self.tell_own_macs()
        await self.attacher.attach_all(self.entries)

    @property
    def capturing(self) -> bool:
        """Whether programs that capture are attached."""
        return self._capturing is not None

    async def start_capturing(self) -> Mapping[str, MapLayout]:
        """Attach programs that capture besides; returns the layouts of their maps.

        Maps, and with them all flows, stay; those of bpf/capture.h come on top. A reload goes on
        capturing, into the same maps. Raises GaleError, and then the plain programs are attached.
        """
        self._capturing = await self._load_capturing(self.datapath.generation)
        layouts = self._capturing.compiled.maps
        try:
            await self.attacher.attach_all(self.entries)
        except GaleError:
            await self.stop_capturing()
            raise
        return layouts

    async def stop_capturing(self) -> None:
        """Attach the plain programs again. Raises AttachError, NetlinkError."""
        self._capturing = None
        await self.attacher.attach_all(self.entries)
        await trio.to_thread.run_sync(self.datapath.forget_older)

    async def _load_capturing(self, generation: Generation) -> Generation:
        captures = await self.load(attrs.evolve(generation.request, capture=True))
        close_maps(captures.maps)  # the plain generation has them open
        return captures

    async def _fill(self, generation: Generation) -> None:
        """Make the maps of a generation say what is known, before any packet meets them."""

        async def switch() -> None:
            tables = await trio.to_thread.run_sync(self._live_tables, generation)
            self.datapath.use(generation)
            self._controller.tables.use(generation.maps["gale_slots"], tables)

        request = generation.request
        known = self._service_ids.known().values()
        await self._controller.serve(
            Served(
                services=request.services,
                forwarders=request.forwarders,
                host=request.host,
                maps=generation.maps,
                retired=tuple(
                    number
                    for number in known
                    if number not in request.services and number < request.limits.max_services
                ),
            ),
            switch,
        )

        await trio.to_thread.run_sync(_write_keys, generation)

    def _live_tables(self, generation: Generation) -> Mapping[str, int]:
        """Return the tables that programs may be reading in this generation's gale_slots."""
        pin = generation.pin_name("gale_slots")
        if self.datapath.loaded:
            same = self.datapath.generation.pin_name("gale_slots") == pin
            return self._controller.tables.regions() if same else {}
        saved = self._adopted.tables if self._adopted.slots_pin == pin else {}
        return {**_tables_in_use(generation, known=saved.values()), **saved}


def _tables_in_use(generation: Generation, *, known: Collection[int]) -> dict[str, int]:
    """Return the tables that programs read and that nobody remembers having put there.

    A balancer that dies between writing a table and saving its state leaves such ones.
    """
    leaves = [leaf for _, leaf in generation.maps["gale_services"].items() if leaf["family"]]
    first = {leaf["table"] for leaf in leaves if leaf["table"] != NO_TABLE}
    return {f"found at {one}": one for one in sorted(first - set(known))}


def _keys(generation: Generation) -> list[tuple[dict[str, Any], int]]:
    """Return what the map of services shall hold; nothing when compares are generated."""
    return service_keys(generation.request.services)


def _write_keys(generation: Generation) -> None:
    """Let programs find services; the former ones, which may use the map too, lose none."""
    if keys := _keys(generation):
        generation.maps["gale_service_keys"].update(keys)


def _drop_stale_keys(generation: Generation) -> None:
    """Take out services that are no longer served, once no program of before runs."""
    keys = [key for key, _ in _keys(generation)]
    if not keys:
        return
    found = generation.maps["gale_service_keys"]
    for stale in [key for key, _ in found.items() if key not in keys]:
        found.delete(stale)
