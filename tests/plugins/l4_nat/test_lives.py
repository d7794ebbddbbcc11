# SPDX-License-Identifier: Apache-2.0
"""Whole lives of flows on all CPUs, beside sweep, reading and real packets; and nothing is left."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address

import pytest
from galelb_plugins.l4_nat.sweep import What, current_tick, sweep

from galelb.bpf.attach import attach_xdp, detach_xdp
from galelb.model import XdpMode
from galelb.testing.contention import run_together
from galelb.testing.dissect import dissect
from galelb.testing.lives import CLOSE, OPEN, USE, Lives, Record, client_of
from galelb.testing.packets import frame
from galelb.testing.runner import PacketRunner
from galelb.testing.world import GATEWAY_MAC, PRIVATE, PRIVATE_MAC, PUBLIC, PUBLIC_MAC

pytestmark = pytest.mark.bpf

KEYS = 400
"""Flows of each lane; both lanes of a pair that shares flows have the same."""
LIFE = (*OPEN, *USE, *CLOSE)
SHARED = (2, 3)
REAL = 100
TIMEOUT = 300.0
"""Five seconds here: no thread waits for a CPU as long as that in the midst of a life."""
OPTIONS = {
    "max_flows": 65536,
    "max_slices": 32,
    "tcp_established_timeout": TIMEOUT,
    "tcp_syn_timeout": TIMEOUT,
    "tcp_fin_timeout": TIMEOUT,
}
SOURCES = tuple(
    ip_address(text.format(number))
    for text in ("10.0.0.{}", "fd00::{}")
    for number in range(201, 207)
)
ENOUGH_PORTS = {"source_addresses": SOURCES, "ports": (1024, 65535), "port_quarantine": TIMEOUT}
"""More than all lives of a test, so that none is used again: who is late meets nobody else's."""
FEW_PORTS = {"source_addresses": (SOURCES[0], SOURCES[6]), "ports": (2000, 2999)}
A_TICK = 1.0
"""A port's quarantine that is over when the clock has ticked."""
WAYS = [("full_nat", 4), ("full_nat", 6), ("dnat", 4), ("dnat", 6)]
ANSWER_S = 1.0
MANY = 1 << 13
"""Runs of the sweep per call: each call waits for the kernel, and nothing is swept meanwhile."""
TRIES = 60


def make_runner(runners, mode: str, **more) -> PacketRunner:
    options = OPTIONS | (more if mode == "full_nat" else {})
    return runners.make("xdp", hurry=True, kinds=("tcp4", "tcp6"), mode=mode, **options)


def make_lives(runner: PacketRunner, version: int) -> Lives:
    service = next(s for s in runner.services.values() if s.vip.version == version)
    source = next((a for a in runner.forwarder.options.source_addresses if a.version == version), 0)
    return Lives(runner, service, source or None)


def numbers(lane: int) -> int:
    """The first flow of a lane: the shared ones have the same."""
    return KEYS * min(lane, SHARED[0])


class Company:
    """What goes on beside the lives until they are led, at least once; each for a thread."""

    def __init__(self, runner: PacketRunner, version: int) -> None:
        self._runner, self._version = runner, version
        self.over = threading.Event()
        self.strangers: set[str] = set()
        self.swept = self.read = 0

    def sweeping(self) -> None:
        while not self.swept or not self.over.is_set():
            for what in What:
                sweep_all(self._runner, self._version, what)
            self.swept += 1

    def reading(self) -> None:
        """Every flow that is read is one that somebody has."""
        mine = {client_of(self._version, n) for n in range(KEYS * (SHARED[0] + 1) + REAL)}
        nodes = {node.address for node in self._runner.world.nodes}
        while not self.read or not self.over.is_set():
            view = self._runner.view()
            for flow in self._runner.forwarder.flows(self._runner, view, limit=10**6):
                if (flow.client, flow.client_port) not in mine or flow.node not in nodes:
                    self.strangers.add(str(flow))
            self.read += 1


def sweep_all(runner: PacketRunner, version: int, what: What) -> tuple[int, int]:
    """Sweep one table; returns how many entries it left in use and in quarantine."""
    first, used, quarantined, done = 0, 0, 0, False
    while not done:
        part = sweep(runner, what, version, first, MANY)
        first, done = part.next, part.done
        used, quarantined = used + part.used, quarantined + part.quarantined
    return used, quarantined


def outlive(runner: PacketRunner) -> None:
    """Wait until all that is silent has expired."""
    start = current_tick(runner)
    while (current_tick(runner) - start) % 65536 < runner.world.host.ticks(TIMEOUT) + 2:
        pass


def nothing_is_left(runner: PacketRunner, version: int, audit) -> None:
    outlive(runner)  # quarantine counts from a flow's last packet, too
    for what in What:
        sweep_all(runner, version, what)

    assert [(0, 0)] * 2 == [sweep_all(runner, version, what) for what in What]
    result = audit(runner)
    assert ([], 0) == (result.problems, result.flows)


class Traffic:
    """Real packets through the attached program: a client and a node on the far ends."""

    def __init__(self, runner: PacketRunner, version: int) -> None:
        self._runner, self._version = runner, version
        self._service = next(s for s in runner.services.values() if s.vip.version == version)
        self.wrong: list[str] = []
        self.answered = 0

    @contextmanager
    def attached(self) -> Iterator[None]:
        sandbox, world = self._runner.sandbox, self._runner.world
        pin = self._runner.compiled.programs["gale_xdp_entry"].pin
        with ExitStack() as stack:
            for name in (PUBLIC, PRIVATE):
                sandbox.command("ethtool", "-K", f"{name}x", "gro", "on")
                at = world.interface(name).ifindex, name
                sandbox.run(attach_xdp, *at, pin, XdpMode.NATIVE)
                stack.callback(sandbox.run, detach_xdp, *at)
            yield

    def talk(self) -> None:
        with listening(f"{PUBLIC}x") as client, listening(f"{PRIVATE}x") as node:
            for number in range(REAL):
                self._converse(client, node, numbers(SHARED[0]) + KEYS + number)

    def _converse(self, client: socket.socket, node: socket.socket, number: int) -> None:
        address, port = client_of(self._version, number)
        vip, at = str(self._service.vip), self._service.port

        def to_vip(flags: str) -> bytes:
            macs = {"src_mac": GATEWAY_MAC, "dst_mac": PUBLIC_MAC}
            return frame(str(address), vip, port, at, flags=flags, **macs)

        there = self._send(client, to_vip("S"), node, lambda p: p.dport == 8080)
        macs = {"src_mac": GATEWAY_MAC, "dst_mac": PRIVATE_MAC}
        back = frame(str(there.dst), str(there.src), there.dport, there.sport, flags="SA", **macs)
        got = self._send(node, back, client, lambda p: p.sport == at)
        if (got.dst, got.dport) != (address, port):
            self.wrong.append(f"{address} {port} was answered at {got.dst} {got.dport}")
        self.answered += 1

    def _send(self, out: socket.socket, data: bytes, ear: socket.socket, wanted):
        """Send a frame, anew when nothing came of it: who waits too long for a lock is dropped."""
        for _ in range(TRIES):
            out.send(data)
            try:
                while True:
                    packet = dissect(ear.recv(2048))
                    if packet is not None and packet.protocol == 6 and wanted(packet):
                        return packet
            except TimeoutError:
                continue
        raise AssertionError("nothing came of a real packet")


def listening(device: str) -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    made.settimeout(ANSWER_S)
    made.bind((device, 3))  # ETH_P_ALL
    return made


def faults(record: Record) -> tuple[int, ...]:
    """What must be none in a life that nobody else can end; a first packet may be refused."""
    return (*record.missed[1:], record.crossed, record.moved)


@pytest.mark.parametrize(("mode", "version"), WAYS)
def test_lives_on_all_cpus_beside_everything_else(runners, audit, mode, version) -> None:
    """Two lanes have flows of their own, two share theirs; a shared flow may end meanwhile."""
    runner = make_runner(runners, mode, **ENOUGH_PORTS)
    company, traffic = Company(runner, version), Traffic(runner, version)
    lives, records = 50_000, {}

    with make_lives(runner, version) as many, traffic.attached():

        def lead(lane: int) -> None:
            records[lane] = many.live(
                LIFE, lives, first=numbers(lane), count=KEYS, lane=lane, at_random=lane in SHARED
            )

        def all_lives() -> None:
            try:
                run_together(
                    runner.sandbox, [*(lambda n=n: lead(n) for n in range(4)), traffic.talk]
                )
            finally:
                company.over.set()

        run_together(runner.sandbox, [all_lives, company.sweeping, company.reading])

    assert [(0,) * 9] * 2 == [faults(records[lane]) for lane in (0, 1)]
    assert {lives} == {r.ended + sum(r.missed) for r in records.values()}
    assert [0, 0] == [records[lane].crossed for lane in SHARED]
    assert ([], REAL) == (traffic.wrong, traffic.answered)
    assert set() == company.strangers
    assert [] == audit(runner).problems
    nothing_is_left(runner, version, audit)


@pytest.mark.parametrize("version", [4, 6])
def test_ports_are_given_again_but_never_to_two(runners, audit, version) -> None:
    """Three thousand ports for many more lives: what is closed makes room for the next."""
    runner = make_runner(runners, "full_nat", **FEW_PORTS, port_quarantine=A_TICK)
    company = Company(runner, version)
    ended = dict.fromkeys(range(4), 0)
    problems: list[Record] = []

    with make_lives(runner, version) as many:

        def lead(lane: int) -> None:
            while ended[lane] < 5000:
                found = many.live(LIFE, 5000, first=KEYS * lane, count=KEYS, lane=lane)
                ended[lane] += found.ended
                if any(faults(found)):
                    problems.append(found)

        def all_lives() -> None:
            try:
                run_together(runner.sandbox, [lambda n=n: lead(n) for n in range(4)])
            finally:
                company.over.set()

        run_together(runner.sandbox, [all_lives, company.sweeping])

    assert [] == problems
    assert [] == audit(runner).problems
    nothing_is_left(runner, version, audit)
