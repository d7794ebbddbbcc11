# SPDX-License-Identifier: Apache-2.0
"""Requests and connections per second through a balancer, beside what people would use instead.

Method: a client (wrk, three threads, 48 connections), the balancer and three nodes (nginx) are
network namespaces at one switch; a balancer has one interface. In turn, several times: straight to
one node, straight to the nodes (each thread to another), l4_nat and l2_bridge by a real `galelb
run`, nftables (DNAT by jhash and masquerading), HAProxy (tcp mode) and nginx (stream), the last
three as Debian packages them. Once with requests that follow each other on open connections, once
with a new connection for each request.

CPU is the time that all CPUs of the machine were busy, less that of processes which are no part of
this, per request; `added` is that less the same of "straight to the nodes" in the same round: three
nodes share the work there too, which costs more than one node that always has some (the result in
JSON has both).

A result is refused when a request failed, when the nodes did not count as many requests as the
client and not more connections than expected, or when a node got none.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import attrs

from bench.balancer import balancer, config_text
from bench.figures import machine, spread
from bench.machine import RefusedError, busy_s, ratios
from bench.nftables import nftables
from bench.processes import running
from bench.web import DEVICE, NODES, PORT, VIP, Web, nginx

ROUNDS = int(os.environ.get("GALELB_BENCH_ROUNDS", "3"))
SECONDS = float(os.environ.get("GALELB_BENCH_SECONDS", "5"))
CONNECTIONS = 48  # as many for each thread
_STRAIGHT, _TO_ONE = "straight to the nodes", "straight to one node"
_SERVICE = (VIP, PORT, "tcp")
_LOADS = {"requests": False, "connections": True}

Result = Mapping[str, Any]
Start = Callable[[Web], contextlib.AbstractContextManager[object]]


@attrs.frozen(kw_only=True)
class Contender:
    """Something that balances: how to start it, where clients send to, whom that serves."""

    name: str
    start: Start
    addresses: tuple[str, ...] = (VIP,)
    nodes: int = len(NODES)


@attrs.frozen(kw_only=True)
class Sample:
    """What was seen once."""

    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


def contenders() -> list[Contender]:
    """Return what is measured, in this order in each round."""
    return [
        Contender(name=_TO_ONE, start=contextlib.nullcontext, addresses=NODES[:1], nodes=1),
        Contender(name=_STRAIGHT, start=contextlib.nullcontext, addresses=NODES),
        Contender(name="l4_nat", start=_galelb("l4_nat")),
        Contender(name="l2_bridge", start=_galelb("l2_bridge")),
        Contender(
            name="nftables", start=lambda web: nftables(web.balancer, _SERVICE, NODES, DEVICE)
        ),
        Contender(name="HAProxy (tcp)", start=_haproxy),
        Contender(name="nginx (stream)", start=_nginx),
    ]


def _galelb(plugin: str) -> Start:
    text = config_text(plugin, {}, interfaces=(DEVICE, DEVICE), vip=_SERVICE, nodes=NODES)
    return lambda web: balancer(web.balancer, text, len(NODES))


@contextlib.contextmanager
def _haproxy(web: Web) -> Iterator[None]:
    servers = "".join(f"\tserver node{n} {node}:{PORT}\n" for n, node in enumerate(NODES, 1))
    config, log = web.directory / "haproxy.cfg", web.directory / "haproxy.log"
    config.write_text(f"""
global
	maxconn 8192
defaults
	mode tcp
	timeout connect 5s
	timeout client 60s
	timeout server 60s
listen bench
	bind {VIP}:{PORT}
{servers}""")
    with running(web.balancer, ["haproxy", "-db", "-f", str(config)], log):
        web.wait(VIP, log)
        yield


@contextlib.contextmanager
def _nginx(web: Web) -> Iterator[None]:
    servers = "".join(f"\t\tserver {node}:{PORT};\n" for node in NODES)
    argv, log = nginx(
        web.directory / "stream",
        f"""
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
worker_processes auto;
events {{ worker_connections 8192; }}
stream {{
	upstream nodes {{
{servers}	}}
	server {{
		listen {VIP}:{PORT};
		proxy_pass nodes;
	}}
}}
""",
    )
    with running(web.balancer, argv, log):
        web.wait(VIP, log)
        yield


def run() -> dict[str, Any]:
    """Measure everybody, round by round."""
    all_ = contenders()
    rounds = []
    with Web() as web:
        for _ in range(ROUNDS):
            rounds.append({one.name: _measure(one, web) for one in all_})
    return {
        "machine": machine(),
        "versions": _versions(),
        "seconds": SECONDS,
        "clients": CONNECTIONS,
        "nodes": len(NODES),
        "rounds": len(rounds),
        "loads": {
            load: {one.name: _figures(one.name, load, rounds) for one in all_} for load in _LOADS
        },
    }


def describe(result: Result) -> str:
    """Return tables of the result."""
    where = result["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    lines = [
        f"  {where['cpus']} CPUs ({where['model']}), Linux {where['kernel']}, {versions}",
        f"  {result['clients']} clients at a time, {result['nodes']} nodes, {result['rounds']} "
        f"rounds of {result['seconds']:g} s; least, median, most",
    ]
    for load, contenders_ in result["loads"].items():
        columns = (f"{load}/s", "p50, ms", "p99, ms", "CPU, us", "added CPU, us")
        lines.append(f"  {'':<22}" + "".join(f"{name:>23}" for name in columns))
        fields = (("per_s", 0), ("p50_ms", 2), ("p99_ms", 2), ("cpu_us", 1), ("added_us", 1))
        for name, one in contenders_.items():
            lines.append(f"  {name:<22}" + "".join(_three(one[key], n) for key, n in fields))
    return "\n".join(lines)


def _three(values: Mapping[str, float], digits: int) -> str:
    text = " ".join(f"{values[key]:.{digits}f}" for key in ("min", "median", "max"))
    return f"{text:>23}"


def _measure(contender: Contender, web: Web) -> dict[str, Sample]:
    with contender.start(web):
        web.fetch(f"http://{contender.addresses[0]}:{PORT}/")
        return {load: _sample(contender, web, close=close) for load, close in _LOADS.items()}


def _sample(contender: Contender, web: Web, *, close: bool) -> Sample:
    served, before = web.served(), busy_s()
    answers = web.wrk(contender.addresses, SECONDS, CONNECTIONS, close=close)
    used = busy_s() - before
    now = [
        (connections - was[0], requests - was[1])
        for (connections, requests), was in zip(web.served(), served, strict=True)
    ]
    _check(contender, answers.requests, answers.failed, now, close=close)
    return Sample(
        per_s=answers.requests / answers.duration_us * 1e6,
        p50_ms=answers.p50_us / 1000,
        p99_ms=answers.p99_us / 1000,
        cpu_us=used / answers.requests * 1e6,
    )


def _check(
    contender: Contender,
    requests: int,
    failed: int,
    served: Sequence[tuple[int, int]],
    *,
    close: bool,
) -> None:
    """Raise RefusedError unless the nodes served what the client asked for, all of them."""
    # Each node was asked for its counts once, too; and what is under way at the end counts there.
    spare = CONNECTIONS + 2 * len(NODES)
    busy = [node for node in served if node[1] > 2]
    total, opened = sum(node[1] for node in served), sum(node[0] for node in served)
    name = contender.name
    if failed or not requests:
        raise RefusedError(f"{name}: {failed} requests failed, {requests} were answered")
    if len(busy) != contender.nodes:
        raise RefusedError(f"{name}: {len(busy)} nodes served, not {contender.nodes}")
    if not requests <= total <= requests + spare:
        raise RefusedError(f"{name}: nodes served {total} requests, the client saw {requests}")
    if close and opened < requests:
        raise RefusedError(f"{name}: nodes saw {opened} connections for {requests} requests")


def _figures(name: str, load: str, rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    def figure(field: str, of: str = name) -> list[float]:
        return [getattr(one[of][load], field) for one in rounds]

    def added(to: str) -> dict[str, float]:
        pairs = zip(figure("cpu_us"), figure("cpu_us", to), strict=True)
        return spread([one - other for one, other in pairs], 2)

    return {
        "per_s": spread(figure("per_s"), 1),
        "p50_ms": spread(figure("p50_ms")),
        "p99_ms": spread(figure("p99_ms")),
        "cpu_us": spread(figure("cpu_us"), 2),
        "added_us": added(_STRAIGHT),
        "added_to_one_us": added(_TO_ONE),
        "to_straight": ratios(figure("per_s"), figure("per_s", _STRAIGHT)),
    }


def _versions() -> dict[str, str]:
    commands = {
        "nftables": ("nft", "--version"),
        "HAProxy": ("haproxy", "-v"),
        "nginx": ("nginx", "-v"),
        "wrk": ("wrk", "-v"),
    }
    return {"galelb": version("galelb")} | {
        name: _first_number(argv) for name, argv in commands.items()
    }


def _first_number(argv: Sequence[str]) -> str:
    """Return the version that a program tells: its first word with digits and dots."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    words = (done.stdout + done.stderr).replace("/", " ").split()
    return next((word.strip("v,") for word in words if word.strip("v")[:1].isdigit()), "unknown")
