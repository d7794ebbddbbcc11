# SPDX-License-Identifier: Apache-2.0
"""Packets per second through a balancer between two veth pairs, beside nftables.

Method: one CPU makes UDP packets of 60 bytes (live frames), 10,000 flows drawn at random; they go
through veth into the balancer's network namespace, through what balances there, and through veth
to 10 nodes, where an XDP program counts and drops them. All of that, generator and sink included,
runs on that one CPU; the figures are what arrives. In turn, several times: a program that only
redirects (the ceiling), nftables (DNAT by jhash and masquerading), and every forwarder by a
real `galelb run`. CPU time is that of the sending thread, of what the kernel does for it in
interrupts, and of the `galelb` process, per packet that arrived: what else the machine does is
not in it, while packets/s suffer from it. On a machine that does nothing else both ratios agree.

Before each measurement every flow is sent twice, and every packet is checked: sums, destination,
each flow once, answers back to the client where the balancer sees them; so flows are established.
While it is measured every packet is still checked for its destination. Anything wrong, and
the result is refused.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import attrs

from bench.balancer import balancer, config_text
from bench.figures import machine, spread
from bench.flows import NODES, PORT, VIP, node_numbers
from bench.machine import RefusedError, process_s, ratios
from bench.nftables import nftables
from bench.traffic import PRIVATE, PUBLIC, Load, Traffic, Wish

FLOWS = int(os.environ.get("GALELB_BENCH_FLOWS", "10000"))
ROUNDS = int(os.environ.get("GALELB_BENCH_ROUNDS", "5"))
SECONDS = float(os.environ.get("GALELB_BENCH_SECONDS", "2"))
_MOST_LOST = 0.02
_CEILING, _NFTABLES = "XDP redirect (ceiling)", "nftables"
_SERVICE = (VIP, PORT, "udp")

Result = Mapping[str, Any]
Start = Callable[[Traffic], contextlib.AbstractContextManager[object]]


@attrs.frozen(kw_only=True)
class Contender:
    """Something that balances: how to start it, and what it makes of packets."""

    name: str
    wish: Wish
    start: Start
    balances: bool = True


@attrs.frozen(kw_only=True)
class Sample:
    """What was seen once."""

    mpps: float
    cpu_ns: float
    lost_percent: float


def contenders() -> list[Contender]:
    """Return what is measured, in this order in each round."""
    translated = Wish(translated=True, echo=True)
    return [
        Contender(name=_CEILING, wish=Wish(), start=Traffic.redirected, balances=False),
        Contender(name=_NFTABLES, wish=translated, start=_nftables),
        Contender(name="l4_nat", wish=translated, start=_galelb("l4_nat")),
        Contender(name="l2_bridge", wish=Wish(), start=_galelb("l2_bridge")),
        Contender(
            name="l3_route ipip",
            wish=Wish(tunnel=True),
            start=_galelb("l3_route", encap='"ipip"'),
        ),
    ]


def _nftables(traffic: Traffic) -> contextlib.AbstractContextManager[object]:
    return nftables(traffic.balancer, _SERVICE, NODES, PRIVATE)


def _galelb(plugin: str, **options: str) -> Start:
    text = config_text(plugin, options, interfaces=(PRIVATE, PUBLIC), vip=_SERVICE, nodes=NODES)
    return lambda traffic: balancer(traffic.balancer, text, len(NODES))


def run() -> dict[str, Any]:
    """Measure everybody, round by round."""
    all_ = contenders()
    rounds = []
    with Traffic(FLOWS) as traffic:
        for _ in range(ROUNDS):
            rounds.append({one.name: _measure(one, traffic) for one in all_})
    return {
        "machine": machine(),
        "versions": _versions(),
        "flows": FLOWS,
        "nodes": len(NODES),
        "seconds": SECONDS,
        "rounds": len(rounds),
        "contenders": {one.name: _figures(one.name, rounds) for one in all_},
    }


def describe(result: Result) -> str:
    """Return a table of the result."""
    where = result["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    columns = ("million packets/s", "x nftables", "CPU ns/packet", "nftables' / its")
    lines = [
        f"  {where['cpus']} CPUs ({where['model']}), Linux {where['kernel']}, {versions}",
        f"  {result['flows']:,} flows, {result['nodes']} nodes, {result['rounds']} rounds of "
        f"{result['seconds']:g} s; least, median, most; ratios within a round",
        f"  {'':<23}" + "".join(f"{name:>22}" for name in columns),
    ]
    fields = (("mpps", 2), ("packets_to_nftables", 2), ("cpu_ns", 0), ("cpu_to_nftables", 2))
    for name, one in result["contenders"].items():
        lines.append(f"  {name:<23}" + "".join(_three(one[key], n) for key, n in fields))
    return "\n".join(lines)


def _three(values: Mapping[str, float], digits: int) -> str:
    text = " ".join(f"{values[key]:.{digits}f}" for key in ("min", "median", "max"))
    return f"{text:>22}"


def _measure(contender: Contender, traffic: Traffic) -> Sample:
    with contender.start(traffic) as process:
        try:
            if contender.balances:
                traffic.prove(contender.wish)
            before = _daemon_s(process)
            load = traffic.load(contender.wish, SECONDS)
            return _sample(contender, load, _daemon_s(process) - before)
        except RefusedError as error:
            raise RefusedError(f"{contender.name}: {error.message}") from None


def _daemon_s(process: object) -> float:
    return process_s(process.pid) if isinstance(process, subprocess.Popen) else 0.0


def _sample(contender: Contender, load: Load, daemon_s: float) -> Sample:
    right = sum(load.arrived.values())
    if 0 in load.arrived:
        raise RefusedError(f"{load.arrived[0]} packets were not as they should be")
    if contender.balances and load.arrived.keys() != node_numbers():
        raise RefusedError(f"packets came to {len(load.arrived)} of {len(NODES)} nodes")
    if not load.sent * (1 - _MOST_LOST) <= right <= load.sent:
        raise RefusedError(f"{right} of {load.sent} packets arrived")
    return Sample(
        mpps=right / load.took_s / 1e6,
        cpu_ns=(load.cpu_s + daemon_s) / right * 1e9,
        lost_percent=100 * (1 - right / load.sent),
    )


def _figures(name: str, rounds: Sequence[Mapping[str, Sample]]) -> dict[str, Any]:
    def figure(field: str, of: str = name) -> list[float]:
        return [getattr(one[of], field) for one in rounds]

    return {
        "mpps": spread(figure("mpps"), 3),
        "cpu_ns": spread(figure("cpu_ns"), 1),
        "lost_percent": spread(figure("lost_percent"), 3),
        "packets_to_nftables": ratios(figure("mpps"), figure("mpps", _NFTABLES)),
        "packets_to_ceiling": ratios(figure("mpps"), figure("mpps", _CEILING)),
        "cpu_to_nftables": ratios(figure("cpu_ns", _NFTABLES), figure("cpu_ns")),
    }


def _versions() -> dict[str, str]:
    said = subprocess.run(["nft", "--version"], capture_output=True, text=True, check=True).stdout
    return {"galelb": version("galelb"), "nftables": said.split()[1].removeprefix("v")}
