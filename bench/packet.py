# SPDX-License-Identifier: Apache-2.0
"""Nanoseconds of one packet through every forwarder, beside a program that only sends it back.

Method: wrapper.bpf.c makes each frame anew, of a flow drawn at random, and goes on in the program
by a tail call, a million times in one BPF_PROG_TEST_RUN. The same around a bare `return XDP_TX` is
the floor, measured in turn with the program; a ratio is of one such pair. All on one core,
one-armed (packets leave by the interface that they came by), 10 nodes. A result counts only if
the program's own counters say that its packets were forwarded.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any

import attrs

from bench.figures import machine, spread
from bench.wrapper import Flow, Timing, Wrapper
from galelb.abi import Reason
from galelb.datapath.sandbox import Sandbox
from galelb.model import Protocol, Service
from galelb.plugins import Plugins
from galelb.testing.packets import frame
from galelb.testing.runner import TABLE_SIZE, PacketRunner
from galelb.testing.world import TestNode, World, build_world

PACKETS = int(os.environ.get("GALELB_BENCH_PACKETS", "1000000"))
ROUNDS = int(os.environ.get("GALELB_BENCH_ROUNDS", "7"))
FLOWS = (1, 1_000, 65_536, 1_000_000)
SERVICES = (1, 200)
_NODES = 10
_VIPS = {4: "198.51.100.1", 6: "2001:db8:1::1"}
_CLIENTS = {4: "100.64.0.0", 6: "2001:db8:9::6440:0"}
_SOURCES = {4: "10.0.0.201", 6: "fd00::201"}
_FIRST_NODE = "10.1.0.11"
_PAYLOAD = b"x" * 6
_PORT = 80


@attrs.frozen(kw_only=True)
class Case:
    """What one line of the result is about."""

    forwarder: str
    version: int = 4
    flows: int = 1
    services: int = 1
    nodes: int = 10
    table_size: int = TABLE_SIZE
    options: Mapping[str, Any] = attrs.Factory(dict)
    answers: bool = False
    """Packets of nodes to clients instead of the other way."""

    @property
    def name(self) -> str:
        """One line for people."""
        way = " back" if self.answers else ""
        encap = f" {self.options['encap']}" if "encap" in self.options else ""
        more = f", {self.services} services" if self.services > 1 else ""
        more += f", {self.nodes:,} nodes" if self.nodes != _NODES else ""
        return f"{self.forwarder}{encap}{way} IPv{self.version}, {self.flows:,} flows{more}"


def cases() -> list[Case]:
    """Return what is measured."""
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("l2_bridge", {}),
        ("l3_route", {"encap": "ipip"}),
        ("l3_route", {"encap": "gue"}),
        ("l3_route", {"encap": "none"}),
    ]
    found = [
        Case(forwarder=name, version=version, flows=flows, options=options)
        for name, options in kinds
        for version in (4, 6)
        for flows in (FLOWS[0], FLOWS[-1])
    ]
    found += [
        Case(
            forwarder="l4_nat",
            version=version,
            flows=flows,
            options=room(version, flows),
            answers=answers,
        )
        for version in (4, 6)
        for answers in (False, True)
        for flows in FLOWS
    ]
    return [*found, Case(forwarder="l2_bridge", services=SERVICES[-1])]


def room(version: int, flows: int) -> dict[str, Any]:
    """Return options of l4_nat for so many flows: each source has 31,000 ports on every node."""
    sources = tuple(ip_address(_SOURCES[version]) + number for number in range(4))
    return {
        "max_flows": max(1 << 16, flows),
        "source_addresses": sources if flows > FLOWS[2] else sources[:1],
    }


def run() -> dict[str, Any]:
    """Measure every case."""
    plugins = Plugins.discover()
    return {
        "machine": machine(),
        "packets_per_round": PACKETS,
        "rounds": ROUNDS,
        "cases": [measure(case, plugins) for case in cases()],
    }


def describe(result: Mapping[str, Any]) -> str:
    """Return a table of the result."""
    lines = [f"  {'case':<52}{'floor':>7}{'ns':>7}{'ratio':>8}{'most':>7}"]
    for one in result["cases"]:
        ratio = one["ratio"]
        lines.append(
            f"  {one['case']:<52}{one['floor_ns']['min']:>7}{one['ns']['min']:>7}"
            f"{ratio['median']:>8.2f}{ratio['max']:>7.2f}"
        )
    return "\n".join(lines)


def measure(case: Case, plugins: Plugins) -> dict[str, Any]:
    """Return a case with its nanoseconds per packet, the floor's, and their ratios."""
    kind = plugins.forwarder(case.forwarder)
    with Sandbox() as sandbox:
        forwarder = kind(kind.Options(**case.options))
        world = _world(case, sandbox)
        services = _services(case)
        with PacketRunner(
            sandbox, world, services, forwarder, table_size=case.table_size
        ) as runner:
            timings = _time(case, sandbox, runner)
    return {"case": case.name, **attrs.asdict(case), **_figures(timings)}


def _world(case: Case, sandbox: Sandbox) -> World:
    """Return the network; more nodes than it has room for are IPv4 ones that are only told of."""
    if case.nodes <= _NODES:
        return build_world(sandbox, nodes=case.nodes)
    first = ip_address(_FIRST_NODE)
    nodes = [
        TestNode(
            index=number + 1,
            address=first + number,
            mac=f"02:00:00:01:{number >> 8:02x}:{number & 255:02x}",
        )
        for number in range(case.nodes)
    ]
    return attrs.evolve(build_world(sandbox, nodes=1), nodes=tuple(nodes))


def _services(case: Case) -> list[Service]:
    """Return the service that packets go to, after all others.

    Where ports are translated all have one port at the nodes: each would need source ports.
    """
    vip = ip_address(_VIPS[case.version])
    ports = [*range(1001, 1000 + case.services), _PORT]
    return [
        Service(
            name=f"s{port}",
            vip=vip,
            port=port,
            protocol=Protocol.TCP,
            target_port=_PORT if case.forwarder == "l4_nat" else port,
            forwarder=case.forwarder,
        )
        for port in ports
    ]


def _time(case: Case, sandbox: Sandbox, runner: PacketRunner) -> list[Timing]:
    bench = _Bench(case, sandbox, runner)
    answers = bench.establish() if runner.forwarder.stateful else []
    reason = Reason.RETURNED if case.answers else Reason.FORWARDED
    with bench.wrapper("A", answers if case.answers else ()) as wrapper:
        wrapper.time(runner.entry_fd, bench.ifindex, PACKETS // 10, 1)
        before = _counted(runner, reason)
        timings = wrapper.time(runner.entry_fd, bench.ifindex, PACKETS, ROUNDS)
        counted = _counted(runner, reason) - before
    assert _nearly_all(counted, PACKETS * ROUNDS), f"{case.name}: only {counted} packets sent"
    return timings


@attrs.frozen
class _Bench:
    """One case on its runner."""

    case: Case
    sandbox: Sandbox
    runner: PacketRunner

    @property
    def ifindex(self) -> int:
        return self.runner.world.private.ifindex

    def wrapper(
        self, flags: str, answers: Sequence[Flow] = (), *, in_turn: bool = False
    ) -> Wrapper:
        """Return the wrapper for packets of clients or, with `answers`, of nodes."""
        made = _answer(self.case, flags) if answers else _frame(self.case, flags)
        return Wrapper(self.sandbox, made, self.case.flows, flows=answers, in_turn=in_turn)

    def establish(self) -> list[Flow]:
        """Shake hands in every flow; return what the nodes' packets have in them."""
        self._each("S")
        answers = self._answers()
        assert _nearly_all(len(answers), self.case.flows), f"only {len(answers)} flows are open"
        answers += answers[: self.case.flows - len(answers)]
        self._each("SA", answers)
        self._each("A")
        return answers

    def _each(self, flags: str, answers: Sequence[Flow] = ()) -> None:
        with self.wrapper(flags, answers, in_turn=True) as wrapper:
            wrapper.run(self.runner.entry_fd, self.ifindex, self.case.flows)

    def _answers(self) -> list[Flow]:
        flows = self.runner.forwarder.flows(
            self.runner.datapath,
            self.runner.view(self.runner.forwarder),
            limit=self.case.flows + 1,
        )
        return [
            Flow(
                one.node.packed[-4:],
                one.source.packed[-4:],
                struct.pack("!HH", _PORT, one.source_port),
            )
            for one in flows
        ]


def _nearly_all(found: int, wanted: int) -> bool:
    """Whether all are there but a few that met two full buckets of a table full to its limit."""
    return wanted * 0.999 <= found <= wanted


def _answer(case: Case, flags: str) -> bytes:
    """Return a frame of the first node to the first source; flows are written into it."""
    node, source = {4: "10.0.0.11", 6: "fd00::11"}[case.version], _SOURCES[case.version]
    return frame(node, source, _PORT, 1024, flags=flags, payload=_PAYLOAD)


def _frame(case: Case, flags: str) -> bytes:
    client, vip = _CLIENTS[case.version], _VIPS[case.version]
    return frame(client, vip, 1024, _PORT, flags=flags, payload=_PAYLOAD)


def _counted(runner: PacketRunner, reason: Reason) -> int:
    """Return how many packets the programs counted with this reason."""
    return sum(
        sum(leaf["packets"] for leaf in leaves)
        for number, leaves in runner.maps["gale_service_stats"].items()
        if number % len(Reason) == reason
    )


def _figures(timings: Sequence[Timing]) -> dict[str, Any]:
    return {
        "ns": spread([one.program for one in timings]),
        "floor_ns": spread([one.floor for one in timings]),
        "beyond_floor_ns": spread([one.program - one.floor for one in timings]),
        "ratio": spread([one.program / one.floor for one in timings], 2),
    }
