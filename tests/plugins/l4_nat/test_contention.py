# SPDX-License-Identifier: Apache-2.0
"""Several CPUs in the same buckets and ports: no flow is lost, crossed or doubled."""

from __future__ import annotations

import pytest
from galelb_plugins.l4_nat.sweep import What, sweep

from galelb.testing.cases import fresh_client
from galelb.testing.contention import run_together
from galelb.testing.dissect import dissect
from galelb.testing.packets import frame
from galelb.testing.runner import PacketRunner
from galelb.testing.storm import Shower, Storm
from galelb.testing.world import GATEWAY_MAC, PRIVATE, PUBLIC, PUBLIC_MAC

pytestmark = pytest.mark.bpf

THREADS = 4
FORWARDED = {3, 4}
DROPPED = 1
WAYS = [("full_nat", "tcp4"), ("full_nat", "udp6"), ("dnat", "tcp4"), ("dnat", "udp6")]
BUSY = {"max_flows": 1024, "max_slices": 32, "ports": (2000, 2499)}
"""A small table and few ports, so that threads meet."""
QUICK = {**BUSY, "port_quarantine": 1.0, "hurry": True}
STORMS = {
    "evicting": ({**QUICK, "ports": (2000, 9999)}, 20000),
    "expiring": (
        {
            **QUICK,
            "tcp_established_timeout": 10.0,
            "tcp_syn_timeout": 2.0,
            "tcp_fin_timeout": 2.0,
            "udp_timeout": 4.0,
            "udp_unreplied_timeout": 2.0,
        },
        300,
    ),
}
"""Options, and how many clients."""


def busy_runner(runners, mode: str, options=BUSY) -> PacketRunner:
    ports = {} if mode == "full_nat" else {"ports": None}
    return runners.make("xdp", mode=mode, **options | ports)


def packets(runner: PacketRunner, kind: str, first: int, count: int, flags: str = "S"):
    """First packets of `count` clients."""
    service = next(s for s in runner.services.values() if s.name == kind)
    version = service.vip.version
    return [
        frame(
            fresh_client(version, number),
            str(service.vip),
            10000 + number,
            service.port,
            protocol=service.protocol.name.lower(),
            flags=flags,
            src_mac=GATEWAY_MAC,
            dst_mac=PUBLIC_MAC,
        )
        for number in range(first, first + count)
    ]


def answer(data: bytes, flags: str = "SA") -> bytes:
    """What the node answers to a packet that it got."""
    packet = dissect(data)
    assert packet is not None
    return frame(
        str(packet.dst),
        str(packet.src),
        packet.dport,
        packet.sport,
        protocol={6: "tcp", 17: "udp"}[packet.protocol],
        flags=flags,
    )


def translation(data: bytes):
    packet = dissect(data)
    assert packet is not None
    return packet.src, packet.sport, packet.dst, packet.dport


@pytest.mark.parametrize(("mode", "kind"), WAYS)
def test_one_new_flow_on_all_cpus_gets_one_way(runners, audit, mode, kind) -> None:
    runner = busy_runner(runners, mode)
    firsts = packets(runner, kind, 1000, 200)
    seen = [[] for _ in range(THREADS)]

    def work(results) -> None:
        results += [runner.run_here(data) for data in firsts]

    run_together(runner.sandbox, [lambda results=results: work(results) for results in seen])

    for number in range(len(firsts)):
        outputs = [results[number] for results in seen]
        assert {r.verdict for r in outputs} <= FORWARDED | {DROPPED}
        ways = {translation(r.data) for r in outputs if r.verdict in FORWARDED}
        assert 1 == len(ways), f"flow {number} went {ways}"
    assert [] == audit(runner).problems


@pytest.mark.parametrize(("mode", "kind"), WAYS)
def test_new_flows_on_all_cpus_never_share_a_way(runners, audit, mode, kind) -> None:
    runner = busy_runner(runners, mode)
    share = 60
    works = [packets(runner, kind, 3000 + n * share, share) for n in range(THREADS)]
    seen = [[] for _ in range(THREADS)]

    def work(mine, results) -> None:
        results += [runner.run_here(data) for data in mine]

    run_together(
        runner.sandbox,
        [lambda m=m, r=r: work(m, r) for m, r in zip(works, seen, strict=True)],
    )

    ways = [translation(r.data) for results in seen for r in results if r.verdict in FORWARDED]
    assert THREADS * share * 0.9 <= len(ways)
    assert len(ways) == len(set(ways))
    assert [] == audit(runner).problems


@pytest.mark.parametrize(("mode", "kind"), WAYS)
def test_answers_reach_their_own_clients_while_others_open(runners, audit, mode, kind) -> None:
    runner = busy_runner(runners, mode)
    share = 40
    groups = [packets(runner, kind, 5000 + n * share, share) for n in range(THREADS)]
    wrong: list[str] = []

    def work(mine) -> None:
        for data in mine:
            there = runner.run_here(data)
            if there.verdict not in FORWARDED:
                continue
            for _ in range(3):
                back = runner.run_here(answer(there.data), PRIVATE)
                got, sent = dissect(back.data), dissect(data)
                if (got.dst, got.dport) != (sent.src, sent.sport):
                    wrong.append(f"{sent.src}:{sent.sport} answered to {got.dst}:{got.dport}")

    run_together(runner.sandbox, [lambda g=g: work(g) for g in groups])

    assert [] == wrong
    assert [] == audit(runner).problems


@pytest.mark.parametrize(("mode", "kind"), WAYS)
def test_a_full_table_evicts_without_losing_count(runners, audit, mode, kind) -> None:
    """Far more half-open flows than entries and ports, on all CPUs."""
    runner = busy_runner(runners, mode)
    groups = [packets(runner, kind, 10000 + n * 900, 900) for n in range(THREADS)]

    def work(mine) -> None:
        for data in mine:
            assert runner.run_here(data).verdict in FORWARDED | {DROPPED}

    run_together(runner.sandbox, [lambda g=g: work(g) for g in groups])

    result = audit(runner)
    assert [] == result.problems
    assert 500 < result.flows


FLAGS = bytes([0x02, 0x02, 0x02, 0x10, 0x11, 0x04, 0x02, 0x10])
"""SYN above all, ACK, FIN, RST."""
RAIN = 150_000
"""Packets per thread."""


def showers(runner: PacketRunner, kind: str, count: int, share: int) -> list[Shower]:
    """A client's packets from many ports, and answers of a node to many ports."""
    (first,) = packets(runner, kind, 30000, 1)
    result = runner.run_raw(first)
    assert result.verdict in FORWARDED
    there = Shower(frame=first, ingress=PUBLIC, first=1024, count=count, share=share, flags=FLAGS)
    ports = runner.forwarder.options.ports or (1024, 1024 + count)
    back = Shower(
        frame=answer(result.data),
        ingress=PRIVATE,
        first=ports[0],
        count=ports[1] - ports[0],
        answers=True,
        flags=bytes([0x12, 0x10, 0x10, 0x11, 0x04, 0x12, 0x10, 0x12]),
    )
    return [there, back]


@pytest.mark.parametrize("name", list(STORMS))
@pytest.mark.parametrize(("mode", "kind"), WAYS)
def test_a_storm_of_packets_leaves_the_tables_whole(runners, audit, mode, kind, name) -> None:
    """CPUs meet in the same keys while flows open, close, expire, are evicted and swept."""
    options, clients = STORMS[name]
    runner = busy_runner(runners, mode, options)
    version = 4 if kind.endswith("4") else 6
    there, back = showers(runner, kind, clients, THREADS)

    def sweeping() -> None:
        for _ in range(100):
            for what in What:
                sweep(runner, what, version, 0, 64)

    with Storm(runner, [there, back]) as storm:
        rain = [lambda: storm.rain(there, RAIN)] * THREADS + [lambda: storm.rain(back, RAIN)]
        run_together(runner.sandbox, [*rain, sweeping])

    assert [] == audit(runner).problems
