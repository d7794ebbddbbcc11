# SPDX-License-Identifier: Apache-2.0
"""Runs frames through a forwarder's compiled program and says what became of them, and why."""

from __future__ import annotations

import atexit
import enum
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType

import attrs

from galelb.abi import NO_TABLE, NextHopFlag, NodeFlag, Reason
from galelb.bpf import syscalls
from galelb.bpf.artefacts import Artefacts
from galelb.bpf.compile import Compiled, Unit, compile_units
from galelb.bpf.compose import compose
from galelb.bpf.maps import PinnedMap, close_maps, open_maps
from galelb.bpf.matching import service_keys
from galelb.bpf.pipeline import Context, Limits, Pipeline, pipeline
from galelb.bpf.testrun import RunResult, run_tc, run_xdp
from galelb.flowhash import node_filter
from galelb.forwarder import DataPath, Forwarder, ForwardingView, PlannedNode
from galelb.model import Interface, IPAddress, Service
from galelb.packing import address_words, network_port
from galelb.services import accepts
from galelb.tables import pack, slots_needed
from galelb.tables.maglev import build_table
from galelb.testing.counters import Counters, name_of
from galelb.testing.dissect import describe
from galelb.testing.kernel import Sandbox
from galelb.testing.packets import ETHERNET
from galelb.testing.world import PUBLIC, TestNode, World

__all__ = ["TABLE_SEED", "TABLE_SIZE", "VERDICTS", "Outcome", "PacketRunner", "Verdict"]

TABLE_SIZE = 1009
TABLE_SEED = 7
"""Seed of the node hash, and size of the tables above: the model needs them."""
MAX_NODES = 64
IPV6 = 6
PAGE_MTU = 3400
"""Frames of a larger MTU lie in several pages, which programs must be loaded for."""


class Verdict(enum.Enum):
    """What became of a frame, in either context."""

    PASS = "pass"  # noqa: S105 - no password
    DROP = "drop"
    TX = "tx"
    REDIRECT = "redirect"


VERDICTS = {
    "xdp": {1: Verdict.DROP, 2: Verdict.PASS, 3: Verdict.TX, 4: Verdict.REDIRECT},
    "tc": {0: Verdict.PASS, 2: Verdict.DROP, 7: Verdict.REDIRECT},
}


@attrs.frozen(kw_only=True)
class Outcome:
    """What a program did with one frame; `out` is the interface that its new MACs lead out of."""

    verdict: Verdict
    reason: Reason
    service: int
    node: int
    data: bytes
    out: str

    def __str__(self) -> str:
        return (
            f"{self.verdict.value} {self.reason.name} service {self.service} node {self.node}"
            f" out {self.out or '-'}: {describe(self.data)}"
        )


class PacketRunner:
    """Forwarders' programs, loaded, over maps that are filled as a control plane would.

    Services name their forwarder; one that is not among `forwarders` is an error. Nothing
    changes by itself: all next hops are known and valid, nodes and services are what the test
    says. A context manager; the sandbox must outlive it.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        world: World,
        services: Sequence[Service],
        *forwarders: Forwarder,
        context: Context = "xdp",
        table_size: int = TABLE_SIZE,
    ) -> None:
        self.sandbox = sandbox
        self.world = world
        self.services = dict(enumerate(services, 1))
        self.forwarders = {one.name: one for one in forwarders}
        missing = {service.forwarder for service in services} - self.forwarders.keys()
        assert not missing, f"services use forwarders that the runner was not given: {missing}"
        self.context = context
        self.table_size = table_size
        contexts: tuple[Context, ...] = ("xdp",) if context == "xdp" else ("xdp", "tc")
        self.pipelines = {each: self._pipeline(each) for each in contexts}
        self.compiled = self._compile()
        self._maps = open_maps(self.compiled.maps)
        self._fds: dict[str, int] = {}
        self._counters = Counters(self._maps["gale_service_stats"])
        self._addresses: set[IPAddress] = set()
        self._numbers = {_mac_bytes(node.mac): node.index for node in world.nodes}
        self._ways = {_mac_bytes(i.mac): i.name for i in (world.public, world.private)}
        self.tables: dict[int, list[TestNode]] = {}
        """What each slot of a service's lookup table names."""

    @property
    def forwarder(self) -> Forwarder:
        """The first forwarder; often the only one."""
        return next(iter(self.forwarders.values()))

    @property
    def maps(self) -> Mapping[str, PinnedMap]:
        """All maps by name, open for as long as the runner lives."""
        return self._maps

    def __enter__(self) -> PacketRunner:
        for name, program in self.compiled.programs.items():
            self._fds[name] = syscalls.obj_get(program.pin)
        for pipe in self.pipelines.values():
            for index, function in pipe.tail_calls.items():
                self.maps[pipe.tail_array].set(index, self._fds[function])
        self._fill()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        close_maps(self._maps)
        for fd in self._fds.values():
            os.close(fd)

    def _pipeline(self, context: Context) -> Pipeline:
        room = max(16, len(self.services) + 1)
        return pipeline(
            services=self.services,
            forwarders=list(self.forwarders.values()),
            host=self.world.host,
            limits=Limits(
                max_services=room,
                max_nodes=max(MAX_NODES, len(self.world.nodes) + 1),
                max_next_hops=2 * max(MAX_NODES, len(self.world.nodes)),
                max_slots=slots_needed(self.table_size, room),
                event_bytes=4096,
                table_size=self.table_size,
            ),
            table_seed=TABLE_SEED,
            context=context,
        )

    def _compile(self) -> Compiled:
        pins, frags = self.sandbox.pins, self.world.private.mtu > PAGE_MTU
        salt = "-frags" if frags else ""
        units = [
            Unit(compose(pipe.parts, pipe.defines, pins, context + salt), pipe.functions, frags)
            for context, pipe in self.pipelines.items()
        ]
        return compile_units(units, pins, artefacts=_artefacts())

    # what the control plane writes

    def _fill(self) -> None:
        self.restore()
        self.replan()
        if keys := service_keys(self.services):
            self.maps["gale_service_keys"].update(keys)
        for number in self.services:
            self.set_table(number, self.eligible(number))

    def restore(self) -> None:
        """Make all nodes and next hops as good as they were at the start."""
        for node in self.world.nodes:
            self.set_next_hop(node.index, self.world.private, node.mac)
            self.set_node(node)
        for index, (interface, mac) in enumerate(self.world.hosts, self.first_host):
            self.set_next_hop(index, interface, mac)

    def eligible(self, service_id: int) -> list[TestNode]:
        """Return the nodes that may serve a service, by its configuration and its forwarder."""
        service = self.services[service_id]
        any_family = self.forwarders[service.forwarder].any_family
        return [n for n in self.world.nodes if accepts(service, n.address, any_family=any_family)]

    @property
    def first_host(self) -> int:
        """Index of the first next hop that leads to clients; the gateway's."""
        return len(self.world.nodes) + 1

    def view(self, forwarder: Forwarder | None = None) -> ForwardingView:
        """Return what a forwarder plans from; that of the first one unless another is named."""
        name = (forwarder or self.forwarder).name
        services = {n: s for n, s in self.services.items() if s.forwarder == name}
        nodes = {n.index: PlannedNode(index=n.index, address=n.address) for n in self.world.nodes}
        return ForwardingView(services=services, nodes=nodes, host=self.world.host)

    def replan(self) -> None:
        """Write what the forwarders' own maps shall hold."""
        for forwarder in self.forwarders.values():
            for name, entries in forwarder.plan(self.view(forwarder), self.maps).items():
                self.maps[name].update(entries)

    def set_node(
        self, node: TestNode, flags: NodeFlag = NodeFlag.PRESENT, *, next_hop: int | None = None
    ) -> None:
        """Write a node; its next hop is its own unless another is given. No flags: it left."""
        family = NodeFlag.IPV6 if node.address.version == IPV6 else NodeFlag(0)
        words = address_words(node.address)
        leaf = {
            "addr": words,
            "next_hop": node.index if next_hop is None else next_hop,
            "flags": int(flags | family),
            "option": 0,
        }
        self.maps["gale_nodes"].set(node.index, leaf)
        if flags:
            self._addresses.add(node.address)
            self.maps["gale_node_addresses"].set({"addr": words}, node.index)
        else:
            self._addresses.discard(node.address)
            self.maps["gale_node_addresses"].delete({"addr": words})
        self.maps["gale_node_filter"].update(enumerate(node_filter(self._addresses)))

    def set_next_hop(
        self,
        index: int,
        interface: Interface,
        mac: str,
        *,
        mtu: int | None = None,
        flags: NextHopFlag = NextHopFlag.VALID,
    ) -> None:
        """Write a next hop, and its index by interface and MAC."""
        leaf = {
            "ifindex": interface.ifindex,
            "mtu": interface.mtu if mtu is None else mtu,
            "dst": _mac_bytes(mac),
            "src": _mac_bytes(interface.mac),
            "flags": int(flags),
        }
        self.maps["gale_next_hops"].set(index, leaf)
        key = {"ifindex": interface.ifindex, "dst": _mac_bytes(mac), "pad": 0}
        self.maps["gale_next_hop_index"].set(key, index)

    def set_table(
        self, service_id: int, nodes: Sequence[TestNode], weights: Sequence[int] = ()
    ) -> None:
        """Give a service a lookup table of these nodes; none = no routable node."""
        service = self.services[service_id]
        first = NO_TABLE
        self.tables.pop(service_id, None)
        if nodes:
            first = (service_id - 1) * slots_needed(self.table_size, 1)
            shares = zip(nodes, weights or [1] * len(nodes), strict=True)
            table = build_table([(str(n.address), w) for n, w in shares], self.table_size, 0)
            packed = pack(table, [n.index for n in nodes])
            self.tables[service_id] = [nodes[position] for position in table]
            self.maps["gale_slots"].mmap()[first * 8 : first * 8 + len(packed)] = packed
        leaf = {
            "addr": address_words(service.vip),
            "port": network_port(service.port),
            "target_port": network_port(service.target_port),
            "protocol": int(service.protocol),
            "family": service.vip.version,
            "vlan": service.vlan,
            "table": first,
            "option": 0,
        }
        self.maps["gale_services"].set(service_id, leaf)

    # running

    @property
    def datapath(self) -> DataPath:
        """The programs and maps as a forwarder's own Python sees them."""
        return self

    def run(self, data: bytes, ingress: str = PUBLIC) -> Outcome:
        """Run one frame that arrives on an interface, and tell how it was counted."""
        return self.run_all([(data, ingress)])[0]

    def run_all(self, frames: Iterable[tuple[bytes, str]]) -> list[Outcome]:
        """Run frames with their interfaces, one after the other, and return their outcomes."""
        return self.sandbox.run(lambda: [self.run_inside(*frame) for frame in frames])

    def run_inside(self, data: bytes, ingress: str = PUBLIC) -> Outcome:
        """Run one frame as `run` does, in this very thread: in the sandbox's namespace."""
        self._counters.start()
        result = self.run_here(data, ingress)
        changed = self._counters.changed()
        assert len(changed) <= 1, f"counted as {[name_of(n) for n in changed]}"
        assert changed, f"not counted: verdict {result.verdict} {describe(result.data)}"
        service, reason = divmod(changed[0], len(Reason))
        verdict = VERDICTS[self.context].get(result.verdict)
        assert verdict, f"verdict {result.verdict} is none of {self.context}"
        return Outcome(
            verdict=verdict,
            reason=Reason(reason),
            service=service,
            node=self._node_of(result.data),
            data=result.data,
            out=self._out(result.data),
        )

    def run_raw(self, data: bytes, ingress: str = PUBLIC, *, repeat: int = 1) -> RunResult:
        """Run one frame without looking at the counters."""
        return self.sandbox.run(lambda: self.run_here(data, ingress, repeat=repeat))

    @property
    def entry_fd(self) -> int:
        """The entry program; the runner's own."""
        return self._fds[f"gale_{self.context}_entry"]

    def run_here(self, data: bytes, ingress: str = PUBLIC, *, repeat: int = 1) -> RunResult:
        """Run one frame in this very thread, which must be in the sandbox's namespace."""
        fd = self.entry_fd
        ifindex = self.world.interface(ingress).ifindex
        if self.context == "xdp":
            return run_xdp(fd, data, ingress_ifindex=ifindex, repeat=repeat)
        return run_tc(fd, data, ifindex=ifindex, repeat=repeat)

    def run_program(
        self, function: str, data: bytes = b"\0" * 64, *, repeat: int = 1
    ) -> tuple[int, bytes]:
        """Run a helper program of the forwarder (galelb.forwarder.DataPath)."""
        result = run_xdp(self._fds[function], data, repeat=repeat)
        return result.verdict, result.data

    def _node_of(self, data: bytes) -> int:
        return self._numbers.get(data[:6], 0)

    def _out(self, data: bytes) -> str:
        return self._ways.get(data[6:12], "") if len(data) >= ETHERNET else ""


@cache
def _artefacts() -> Artefacts:
    """Keep what was compiled until the process ends: many tests want the same programs."""
    folder = tempfile.mkdtemp(prefix="gale-compiled-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Artefacts(Path(folder))


def _mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))
