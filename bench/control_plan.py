# SPDX-License-Identifier: Apache-2.0
"""The control plane of a balancer over maps of the kernel: how long plans take.

Everything from a node's report to the maps is the product's own: the registry of nodes, the
controller, the tables, the forwarder's maps and programs. Only nobody attaches the programs.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import attrs
import trio

from bench.control_world import PRIVATE, PUBLIC, Network, lb_toml, node_address
from bench.figures import spread
from bench.machine import RefusedError
from galelb.abi import NodeFlag
from galelb.config import BalancerConfig, load_balancer_config
from galelb.control.controller import Controller, Served
from galelb.control.identity import Numbering
from galelb.control.nodes import NodeDesk
from galelb.control.settings import health_settings, table_settings
from galelb.datapath.host import host_view
from galelb.datapath.limits import MAX_KNOWN_NODES, MAX_NODES
from galelb.datapath.machine import cache_folder
from galelb.datapath.programs import Generation, KernelDataPath
from galelb.datapath.request import load_request
from galelb.health import NodeHealth
from galelb.model import HealthReport, HealthStatus, Interface, IPAddress, NextHop
from galelb.netlink import open_netlink
from galelb.plugins import Plugins
from galelb.resolve.next_hops import NextHopTable
from galelb.services import resolve_services
from galelb.tables.keeper import TableKeeper

__all__ = ["Case", "Lateness", "measure"]

_SEED = 1
_TICK_S = 0.001


@attrs.frozen(kw_only=True)
class Case:
    """A size of configuration."""

    nodes: int
    services: int
    forwarder: str
    same: bool = True
    """Whether all services have the same nodes, and so share one table."""
    changes: int = 10
    """How often one node changes."""

    @property
    def name(self) -> str:
        """One line for people."""
        each = "" if self.same else ", each with another half of the nodes"
        return f"{self.forwarder}, {self.nodes:,} nodes, {self.services} services{each}"


class Lateness:
    """A component that wants to run every millisecond and notes how late it is at worst."""

    def __init__(self) -> None:
        self.worst = 0.0

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            due = trio.current_time() + _TICK_S
            await trio.sleep_until(due)
            self.worst = max(self.worst, trio.current_time() - due)

    def take(self) -> float:
        """Return the most milliseconds since the last call."""
        worst, self.worst = self.worst, 0.0
        return 1000 * worst


def measure(case: Case, network: Network, plugins: Plugins, rounds: int) -> dict[str, Any]:
    """Return how long whole plans, and plans after a change of one node, took; blocks."""
    with tempfile.TemporaryDirectory(prefix="gale-bench-") as folder:
        path = lb_toml(
            Path(folder),
            forwarder=case.forwarder,
            nodes=case.nodes,
            services=case.services,
            same=case.same,
        )
        config = load_balancer_config(path, plugins)
        plugins.configure(config)
        with _loaded(config, network, plugins) as generation:
            return trio.run(_measure, case, config, plugins, generation, rounds)


@contextlib.contextmanager
def _loaded(config: BalancerConfig, network: Network, plugins: Plugins) -> Iterator[Generation]:
    present = network.sandbox.run(trio.run, _interfaces)
    private, public = present[PRIVATE], present[PUBLIC]
    host = network.sandbox.run(host_view, private, public, _SEED)
    services = dict(enumerate(resolve_services(config, public), 1))
    request = load_request(plugins, config, services, host, present)
    datapath = KernelDataPath(network.sandbox.pins, None, cache_folder())
    generation = datapath.load(request)
    datapath.use(generation)
    try:
        yield generation
    finally:
        datapath.close()


async def _interfaces() -> dict[str, Interface]:
    async with open_netlink() as netlink:
        return await netlink.interfaces()


class _Plane:
    """What `galelb.balancer` makes of these parts, as far as plans are concerned."""

    def __init__(self, config: BalancerConfig, plugins: Plugins, generation: Generation) -> None:
        self.generation = generation
        self.planned = trio.Event()
        self.health = NodeHealth(health_settings(config), max_nodes=MAX_KNOWN_NODES)
        hops = NextHopTable(generation.request.limits.max_next_hops)
        self.tables = TableKeeper(plugins, table_settings(config))
        self.controller = Controller(
            health=self.health,
            nodes=Numbering("node", MAX_NODES),
            next_hops=hops,
            tables=self.tables,
            planned=lambda: self.planned.set(),
        )
        self.desk = NodeDesk(
            self.health,
            plugins,
            on_change=self.controller.wake,
            on_join=_ignore,
            on_leave=_ignore,
        )
        private = generation.request.host.private
        for section in config.nodes:
            assert section.mac is not None
            self.desk.add_static(section.node())
            self.desk.neighbour(section.ip, section.mac)
            hop = NextHop(
                ifindex=private.ifindex, dst_mac=section.mac, src_mac=private.mac, mtu=private.mtu
            )
            hops.set_node(section.ip, hop)
        self.slots: mmap.mmap = generation.maps["gale_slots"].mmap()
        self.slots[:] = bytes(len(self.slots))
        self.tables.use(generation.maps["gale_slots"], {})

    async def fill(self) -> None:
        """Write everything; tables have no content yet."""
        request = self.generation.request
        await self.controller.serve(
            Served(
                services=request.services,
                forwarders=request.forwarders,
                host=request.host,
                maps=self.generation.maps,
            )
        )

    async def change(self, address: IPAddress) -> float:
        """Have a node fall; return the seconds until all maps know."""
        self.planned = trio.Event()
        began = time.perf_counter()
        self.desk.report(
            HealthReport(
                source="health_grpc",
                address=address,
                status=HealthStatus.NOT_SERVING,
            )
        )
        await self.planned.wait()
        return time.perf_counter() - began

    def check(self, case: Case, fallen: Collection[IPAddress]) -> None:
        """Refuse the result unless the maps in the kernel hold what they should."""
        maps, numbers = self.generation.maps, self.controller.nodes.known()
        down = {numbers[str(address)] for address in fallen}
        nodes = dict(maps["gale_nodes"].items())
        for number in numbers.values():
            flags = NodeFlag(nodes[number]["flags"])
            _refuse_unless(bool(flags & NodeFlag.DOWN) == (number in down), f"node {number}")
        size = self.tables.settings.size
        services = dict(maps["gale_services"].items())
        firsts = set()
        for number, service in self.generation.request.services.items():
            first = services[number]["table"]
            firsts.add(first)
            named = set(struct.unpack_from(f"={size}H", self.slots, first * 8))
            wanted = {numbers[str(one)] for one in service.nodes} or set(numbers.values())
            _refuse_unless(named == wanted - down, f"table of {service.name}")
        _refuse_unless(len(firsts) == (1 if case.same else case.services), "number of tables")


def _refuse_unless(right: bool, what: str) -> None:
    if not right:
        raise RefusedError(f"the maps hold something else than was planned: {what}")


def _ignore(node: object) -> None:
    del node


async def _measure(
    case: Case, config: BalancerConfig, plugins: Plugins, generation: Generation, rounds: int
) -> dict[str, Any]:
    late = Lateness()
    whole: list[float] = []
    whole_late: list[float] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(late.run)
        for _ in range(rounds):
            plane = _Plane(config, plugins, generation)
            whole.append(await _timed(plane.fill, late, whole_late))
            plane.check(case, ())
        await nursery.start(plane.controller.run)
        changes: list[float] = []
        changes_late: list[float] = []
        busy: list[float] = []
        falling = [node_address(case.nodes - 1 - number) for number in range(case.changes)]
        for address in falling:
            late.take()
            used = time.process_time()
            changes.append(1000 * await plane.change(address))
            busy.append(1000 * (time.process_time() - used))
            changes_late.append(late.take())
        plane.check(case, falling)
        nursery.cancel_scope.cancel()
    build = plane.tables.build_times["maglev"]
    return {
        "case": case.name,
        **attrs.asdict(case),
        "whole_ms": spread(whole),
        "whole_lag_ms": spread(whole_late),
        "change_ms": spread(changes),
        "change_lag_ms": spread(changes_late),
        "change_cpu_ms": spread(busy),
        "table_built_ms": round(1000 * build.sum / build.count, 1),
    }


async def _timed(fill: Callable[[], Any], late: Lateness, lates: list[float]) -> float:
    await trio.sleep(10 * _TICK_S)  # what came before is no lateness of this
    late.take()
    began = time.perf_counter()
    await fill()
    took = 1000 * (time.perf_counter() - began)
    lates.append(late.take())
    return took


def quiet_log() -> Any:
    """Return where log lines go, which cost what they cost in a balancer."""
    return open(os.devnull, "w")  # noqa: PTH123 - the caller closes it
