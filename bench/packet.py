# SPDX-License-Identifier: Apache-2.0
"""Nanoseconds of one packet through every forwarder, beside a program that only sends it back.

Method: wrapper.bpf.c makes each frame anew, of a flow drawn at random, and goes on in the program
by a tail call, a million times in one BPF_PROG_TEST_RUN. The same around a bare `return XDP_TX` is
the floor, measured in turn with the program; a ratio is of one such pair. All on one core,
one-armed (packets arrive by the interface that leads to the nodes). Flows of l4_nat have shaken
hands before. Where flows are new, each packet is a SYN of a flow that was never seen, and the
table grows from empty to all of them. A result counts only if the program's own counters say that
every single packet was forwarded for its service, and nothing else.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any

import attrs

from bench.cases import PACKETS, ROUNDS, SOURCES, Case, chosen
from bench.figures import machine, spread
from bench.machine import RefusedError
from bench.wrapper import Flow, Timing, Wrapper
from galelb.abi import Reason
from galelb.datapath.sandbox import Sandbox
from galelb.model import Protocol, Service
from galelb.plugins import Plugins
from galelb.testing.counters import Counters, name_of
from galelb.testing.packets import frame
from galelb.testing.runner import PacketRunner
from galelb.testing.world import TestNode, World, build_world

__all__ = ["Bench", "describe", "measure", "run"]

_VIPS = {4: "198.51.100.1", 6: "2001:db8:1::1"}
_CLIENTS = {4: "100.64.0.0", 6: "2001:db8:9::6440:0"}
_FIRST_NODES = {4: "10.1.0.11", 6: "fd00::1:b"}
_PAYLOAD = b"x" * 6
_PORT = 80


def run() -> dict[str, Any]:
    """Measure every case that is chosen. Raises RefusedError."""
    plugins = Plugins.discover()
    return {
        "machine": machine(),
        "packets_per_round": PACKETS,
        "rounds": ROUNDS,
        "cases": [measure(case, plugins) for case in chosen()],
    }


def describe(result: Mapping[str, Any]) -> str:
    """Return a table of the result: the least nanoseconds, what is beyond the floor, ratios."""
    lines = [f"  {'case':<52}{'floor':>7}{'ns':>7}{'beyond':>8}{'ratio':>8}{'most':>7}"]
    for one in result["cases"]:
        ratio = one["ratio"]
        lines.append(
            f"  {one['case']:<52}{one['floor_ns']['min']:>7}{one['ns']['min']:>7}"
            f"{one['beyond_floor_ns']['median']:>8g}{ratio['median']:>8.2f}{ratio['max']:>7.2f}"
        )
    return "\n".join(lines)


def measure(case: Case, plugins: Plugins) -> dict[str, Any]:
    """Return a case with its nanoseconds per packet, the floor's, and their ratios.

    Raises RefusedError when the program does anything but forward.
    """
    with Sandbox() as sandbox, runner_of(case, sandbox, plugins) as runner:
        timings = Bench(case, runner).time()
    return {"case": case.name, **attrs.asdict(case), **_figures(timings)}


def runner_of(case: Case, sandbox: Sandbox, plugins: Plugins) -> PacketRunner:
    """Return the program of a case over its maps, not yet entered."""
    kind = plugins.forwarder(case.forwarder)
    forwarder = kind(kind.Options(**case.options))
    world = _world(case, sandbox)
    return PacketRunner(sandbox, world, _services(case), forwarder, table_size=case.table_size)


def _world(case: Case, sandbox: Sandbox) -> World:
    """Return the network; its nodes are of the case's family and exist only in the maps."""
    first = ip_address(_FIRST_NODES[case.version])
    nodes = tuple(
        TestNode(
            index=number + 1,
            address=first + number,
            mac=f"02:00:00:01:{number >> 8:02x}:{number & 255:02x}",
        )
        for number in range(case.nodes)
    )
    return attrs.evolve(build_world(sandbox, nodes=1), nodes=nodes)


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


@attrs.frozen
class Bench:
    """One case on its runner."""

    case: Case
    runner: PacketRunner

    @property
    def ifindex(self) -> int:
        """The interface that all packets arrive by."""
        return self.runner.world.private.ifindex

    def time(self) -> list[Timing]:
        """Measure the case; raises RefusedError when not all packets were forwarded."""
        with self._measured() as wrapper:
            wrapper.time(self.runner.entry_fd, self.ifindex, self.case.packets, 1)
            counters = Counters(self.runner.maps["gale_service_stats"])
            counters.start()
            timings = wrapper.time(self.runner.entry_fd, self.ifindex, self.case.packets, ROUNDS)
            self._prove(counters.increments(), self.case.packets * ROUNDS)
        return timings

    def _measured(self) -> Wrapper:
        if self.case.new:
            # The floor takes flows out of the same sequence.
            return self.wrapper("S", in_turn=True, count=2 * self.case.flows_in_all)
        answers = self.establish() if self.runner.forwarder.stateful else []
        return self.wrapper("A", answers if self.case.answers else ())

    def _prove(self, counted: Mapping[int, int], packets: int) -> None:
        reason = Reason.RETURNED if self.case.answers else Reason.FORWARDED
        wanted = {self.case.services * len(Reason) + reason: packets}
        if counted != wanted:
            found = ", ".join(f"{count} {name_of(n)}" for n, count in counted.items()) or "none"
            raise RefusedError(
                f"{self.case.name}: of {packets} packets that should be {reason.name}, {found}"
            )

    def wrapper(
        self,
        flags: str,
        answers: Sequence[Flow] = (),
        *,
        in_turn: bool = False,
        count: int = 0,
    ) -> Wrapper:
        """Return the wrapper for packets of clients or, with `answers`, of nodes.

        `count` flows, unless it is 0: as many as the case has.
        """
        made = _answer(self.case, flags) if answers else _frame(self.case, flags)
        count = count or self.case.flows
        return Wrapper(self.runner.sandbox, made, count, flows=answers, in_turn=in_turn)

    def establish(self) -> list[Flow]:
        """Shake hands in every flow; return what the nodes' packets have in them."""
        self._each("S")
        answers = self.answers()
        if len(answers) != self.case.flows:
            raise RefusedError(f"{self.case.name}: {len(answers)} flows are open")
        self._each("SA", answers)
        self._each("A")
        return answers

    def answers(self) -> list[Flow]:
        """Return what packets of nodes have in them, for each flow in the table."""
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

    def _each(self, flags: str, answers: Sequence[Flow] = ()) -> None:
        with self.wrapper(flags, answers, in_turn=True) as wrapper:
            wrapper.run(self.runner.entry_fd, self.ifindex, self.case.flows)


def _answer(case: Case, flags: str) -> bytes:
    """Return a frame of the first node to the first source; flows are written into it."""
    node, source = _FIRST_NODES[case.version], SOURCES[case.version]
    return frame(node, source, _PORT, 1024, flags=flags, payload=_PAYLOAD)


def _frame(case: Case, flags: str) -> bytes:
    client, vip = _CLIENTS[case.version], _VIPS[case.version]
    return frame(client, vip, 1024, _PORT, flags=flags, payload=_PAYLOAD)


def _figures(timings: Sequence[Timing]) -> dict[str, Any]:
    return {
        "ns": spread([one.program for one in timings]),
        "floor_ns": spread([one.floor for one in timings]),
        "beyond_floor_ns": spread([one.program - one.floor for one in timings]),
        "ratio": spread([one.program / one.floor for one in timings], 2),
    }
