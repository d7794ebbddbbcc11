# SPDX-License-Identifier: Apache-2.0
"""The two ends of the benchmark `forward`: a generator of checked packets, and what counts them.

clients `gen0` --- `pub0` balancer `prv0` --- `sink0` nodes, each in a network namespace. The nodes
are addresses with MAC addresses of their own, behind which a program counts and drops.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path

import attrs

from bench.flows import (
    BALANCER,
    CLIENT_MAC,
    CLIENTS,
    GATEWAY,
    NODE_NETWORK,
    NODES,
    PORT,
    PRIVATE_MAC,
    PUBLIC_MAC,
    SIZE,
    VIP,
    flow_of,
    frame_of,
    mac,
    node_numbers,
    raw,
)
from bench.live import send
from bench.machine import RefusedError, interrupts_s, process_s, softirq_thread
from galelb.bpf import syscalls
from galelb.bpf.attach import attach_xdp, detach_xdp
from galelb.bpf.compile import Unit, compile_units
from galelb.bpf.compose import Part, compose
from galelb.bpf.maps import PinnedMap, close_maps, open_maps
from galelb.datapath.sandbox import NsThread, Sandbox
from galelb.model import XdpMode

__all__ = ["PRIVATE", "PUBLIC", "Load", "Traffic", "Wish"]

PUBLIC, PRIVATE = "pub0", "prv0"
_PROGRAMS = ("generate", "sink", "client", "redirect")
_ENDS = {"gen0": "client", "sink0": "sink"}
_SEED = 0x9E3779B97F4A7C15
_CHUNK = 1 << 15
_TRIAL_S = 0.2
_QUIET = {"net.ipv6.conf.all.disable_ipv6": 1, "net.ipv6.conf.default.disable_ipv6": 1}
_SETTLE_S = 0.5
_PROVEN_AT_ONCE = 128  # fits into the queue of a veth, whoever empties it when


@attrs.frozen(kw_only=True)
class Wish:
    """What has to arrive at nodes (see traffic.bpf.c), and whether they answer."""

    translated: bool = False
    tunnel: bool = False
    echo: bool = False


@attrs.frozen(kw_only=True)
class Load:
    """What became of packets that were sent."""

    sent: int
    arrived: dict[int, int]
    """By the last byte of the node's address; 0 = not as wished."""
    took_s: float
    cpu_s: float
    """The CPU time of packets: of generator, balancer and sink."""


class Traffic:
    """The network and its load; a context manager, all gone afterwards (also after kill -9)."""

    def __init__(self, flows: int) -> None:
        self.flows = flows
        self.balancer: NsThread
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Traffic:
        with contextlib.ExitStack() as stack:
            sandbox = stack.enter_context(Sandbox())
            self.balancer = sandbox.net
            self._clients, self._nodes = sandbox.namespace(), sandbox.namespace()
            self._plug(sandbox)
            self._load(sandbox.pins, stack)
            self.cpu = self._clients.run(_bind_to_last_cpu)
            self._softirq = softirq_thread(self.cpu)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _plug(self, sandbox: Sandbox) -> None:
        for net in (self.balancer, self._clients, self._nodes):
            _sysctl(net, _QUIET)
        _sysctl(self.balancer, {"net.ipv4.ip_forward": 1})
        self._gen, _ = self._link(sandbox, self._clients, "gen0", CLIENT_MAC, PUBLIC, PUBLIC_MAC)
        self._link(sandbox, self._nodes, "sink0", "02:00:00:00:00:fe", PRIVATE, PRIVATE_MAC)
        self._out = self.balancer.run(socket.if_nametoindex, PRIVATE)
        ip = self.balancer.command
        ip("ip", "address", "add", f"{VIP}/24", "dev", PUBLIC)
        ip("ip", "address", "add", f"{BALANCER}/24", "dev", PRIVATE)
        ip("ip", "route", "add", f"{CLIENTS}/10", "via", GATEWAY)
        neighbours = [(GATEWAY, CLIENT_MAC, PUBLIC)]
        neighbours += [(node, mac(node), PRIVATE) for node in NODES]
        for address, link, device in neighbours:
            ip("ip", "neigh", "add", address, "lladdr", link, "dev", device, "nud", "permanent")

    @staticmethod
    def _link(
        sandbox: Sandbox, net: NsThread, end: str, end_mac: str, name: str, mac: str
    ) -> tuple[int, int]:
        """Connect a namespace to the balancer; returns the ifindexes of its end and the other."""
        index, far = sandbox.veth(name, end, other=net)
        for home, device, address in ((sandbox.net, name, mac), (net, end, end_mac)):
            home.command("ip", "link", "set", device, "address", address)
            # Frames that XDP sends through a veth reach its peer only with XDP or GRO on.
            home.command("ethtool", "-K", device, "tx", "off", "gro", "on")
        return far, index

    def _load(self, pins: Path, stack: contextlib.ExitStack) -> None:
        names = {f"gale_bench_{name}": "xdp" for name in _PROGRAMS}
        defines: dict[str, int | str] = {
            "BENCH_LEN": SIZE,
            "BENCH_FLOWS": self.flows,
            "BENCH_OUT": self._out,
        }
        wire = files("galelb_bpf").joinpath("wire.h").read_text()
        source = Path(__file__).with_name("traffic.bpf.c").read_text()
        parts = [Part("bpf/wire.h", wire), Part("traffic.bpf.c", source)]
        compiled = compile_units([Unit(compose(parts, defines, pins), names)], pins)
        self._pins = {name: one.pin for name, one in compiled.programs.items()}
        self._maps = open_maps(compiled.maps)
        stack.callback(close_maps, self._maps)
        self._program = syscalls.obj_get(self._pins["gale_bench_generate"])
        stack.callback(os.close, self._program)
        self._map("frames").set(0, {"data": frame_of(0)})
        self._map("flows").update((number, flow_of(number)) for number in range(self.flows))
        for net, device in ((self._clients, "gen0"), (self._nodes, "sink0")):
            net.run(self._attach, device, _ENDS[device])

    def _map(self, name: str) -> PinnedMap:
        return self._maps[f"bench_{name}"]

    def _attach(self, device: str, program: str) -> None:
        pin = self._pins[f"gale_bench_{program}"]
        attach_xdp(socket.if_nametoindex(device), device, pin, XdpMode.NATIVE)

    @contextlib.contextmanager
    def redirected(self) -> Iterator[None]:
        """Have a program at the balancer that only sends on; its frames are for nobody."""
        self.balancer.run(self._attach, PUBLIC, "redirect")
        try:
            yield
        finally:
            self.balancer.run(
                lambda: detach_xdp(socket.if_nametoindex(PUBLIC), PUBLIC),
            )

    def prove(self, wish: Wish) -> None:
        """Send every flow twice, and check all that arrives and is answered.

        After this, every flow is known to whoever remembers flows. Raises RefusedError.
        """
        for _ in range(2):
            self._wish(wish, thorough=True)
            self._map("seen").update((number, 0) for number in range(self.flows))
            before, answers = self.arrived(), self._answers()
            self._draw(in_turn=True)
            for sent in range(0, self.flows, _PROVEN_AT_ONCE):
                piece = min(_PROVEN_AT_ONCE, self.flows - sent)
                self._send(piece)
                if not self._settle(before, sent + piece):
                    break
            verify(before, self.arrived(), self.flows)
            self._check_flows(wish, answers)

    def _check_flows(self, wish: Wish, answers: tuple[int, int]) -> None:
        wrong, right = (now - was for now, was in zip(self._answers(), answers, strict=True))
        expected = self.flows if wish.echo else 0
        if wrong or right != expected:
            raise RefusedError(f"{right} right and {wrong} wrong answers came, not {expected}")
        times = 2 if wish.echo else 1  # the client's end looks at them too
        bad = sum(count != times for _, count in self._map("seen").items())
        if bad:
            raise RefusedError(f"{bad} of {self.flows} flows arrived not at all, or more than once")

    def load(self, wish: Wish, seconds: float) -> Load:
        """Send for about so long."""
        self._wish(attrs.evolve(wish, echo=False), thorough=False)
        self._draw(in_turn=False)
        packets = self._enough_for(seconds)
        before, used = self.arrived(), self._used_s()
        began = time.monotonic()
        self._send(packets)
        took = time.monotonic() - began
        used = self._used_s() - used
        self._settle(before, packets)
        return Load(sent=packets, arrived=subtract(self.arrived(), before), took_s=took, cpu_s=used)

    def _enough_for(self, seconds: float) -> int:
        """Return how many packets take so long in one call.

        In one, since each begins with milliseconds in which the kernel gets ready.
        """
        packets, took = _CHUNK, 0.0
        while took < _TRIAL_S:
            packets *= 2
            before, began = self.arrived(), time.monotonic()
            self._send(packets)
            took = time.monotonic() - began
            self._settle(before, packets)
        return int(packets * seconds / took)

    def _used_s(self) -> float:
        """Return the CPU time of all that happens to packets, in the thread and for it."""
        sender = self._clients.run(time.thread_time)
        return sender + process_s(self._softirq) + interrupts_s(self.cpu)

    def _wish(self, wish: Wish, *, thorough: bool) -> None:
        leaf = {
            "network": raw(NODE_NETWORK),
            "vip": raw(VIP),
            "port": socket.htons(PORT),
            "thorough": int(thorough),
        }
        self._map("wishes").set(0, leaf | {k: int(v) for k, v in attrs.asdict(wish).items()})

    def _draw(self, *, in_turn: bool) -> None:
        """Let flows come one after the other, or at random."""
        state = {"random": _SEED, "turn": 0, "in_turn": int(in_turn)}
        self._map("states").set(0, state)

    def _send(self, packets: int) -> None:
        self._clients.run(send, self._program, self._gen, SIZE, packets)

    def _settle(self, before: Mapping[int, int], packets: int) -> bool:
        """Wait until all have arrived, or no more do; return whether all have."""
        last, quiet_until = -1, 0.0
        while (now := sum(subtract(self.arrived(), before).values())) < packets:
            if now != last:
                last, quiet_until = now, time.monotonic() + _SETTLE_S
            elif time.monotonic() > quiet_until:
                return False
            time.sleep(0.002)
        return True

    def arrived(self) -> dict[int, int]:
        """Return packets by the last byte of the node's address; 0 = not as wished."""
        found = {key: sum(counts) for key, counts in self._map("arrived").items()}
        return {key: count for key, count in found.items() if key < 256}

    def _answers(self) -> tuple[int, int]:
        wrong, right = (sum(self._map("answers").get(key) or ()) for key in (0, 1))
        return wrong, right


def verify(before: Mapping[int, int], after: Mapping[int, int], packets: int) -> None:
    """Raise RefusedError unless all packets came, to nodes only, and to every node."""
    found = subtract(after, before)
    wrong = sum(count for number, count in found.items() if number not in node_numbers())
    if wrong:
        raise RefusedError(f"{wrong} packets arrived that were not as they should be")
    if sum(found.values()) != packets:
        raise RefusedError(f"{sum(found.values())} of {packets} packets arrived")
    if packets >= 100 * len(NODES) and set(found) != node_numbers():
        raise RefusedError(f"only {len(found)} of {len(NODES)} nodes got packets")


def subtract(after: Mapping[int, int], before: Mapping[int, int]) -> dict[int, int]:
    """Return by how much counters grew, those that did."""
    grown = {key: count - before.get(key, 0) for key, count in after.items()}
    return {key: count for key, count in grown.items() if count}


def _sysctl(net: NsThread, values: Mapping[str, int]) -> None:
    net.command("sysctl", "-qw", *(f"{key}={value}" for key, value in values.items()))


def _bind_to_last_cpu() -> int:
    """All of a packet's way is then on one CPU, which is returned; other work has the others."""
    cpu = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpu})
    return cpu
