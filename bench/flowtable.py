# SPDX-License-Identifier: Apache-2.0
"""l4_nat's flow table with a million flows: opening, holding, sweeping, reading, contention.

Method: lives.bpf.c (galelb.testing.lives) makes packets, runs the entry program by a tail call, and
judges what came out: the client's way to its node, the answer's way to its client. Half of the
flows are opened by one thread, half by two; between that established packets are sent, at random
among the flows that are open. Then every flow is used once more in both directions and the tables
are counted, whole columns at a time. A result counts only if no packet went wrong, every flow has
its own entry and port, and those that are missing were refused. Contention is measured in a table
of its own, in which flows are opened, used and closed again and again.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import attrs
from galelb_plugins.l4_nat.entries import USED, EntryTable
from galelb_plugins.l4_nat.sweep import What, current_tick, sweep
from galelb_plugins.l4_nat.sweeper import BITE

from bench.figures import line, machine, spread
from bench.flowtable_census import census
from bench.flowtable_load import Load, load, rate, refuse_unless, together
from bench.flowtable_share import SHARED, share
from bench.machine import ratios
from galelb.abi import Reason
from galelb.testing.lives import CLOSE, OPEN, USE, Record

FLOWS = int(os.environ.get("GALELB_BENCH_FLOWS", "1000000"))
ROUNDS = int(os.environ.get("GALELB_BENCH_ROUNDS", "3"))
PACKETS = int(os.environ.get("GALELB_BENCH_PACKETS", "1000000"))
_SYN, _REST, _ESTABLISHED = OPEN[:1], (OPEN[2], *OPEN[1:]), OPEN[2:]
_LIFE = (*OPEN, *USE, *CLOSE)
_PATIENT = {"tcp_syn_timeout": 3600.0}
"""Flows that wait for their handshake do not expire meanwhile."""
_BUSY = {"port_quarantine": 1.0}
_BUSY_FLOWS = 10_000
"""Flows of a thread that opens and closes them."""
_FEW_FLOWS = 64
"""Flows that threads share, drawn at random: they meet all the time."""
_BITE = 1 << 16
"""Runs of the sweep per call: a whole table, so that what a call costs hardly counts."""
_BITES = 20
_TICKS = 1 << 16
"""The clock of the tables goes round after so many."""
_SHARING = sorted({1 << 18, max(1 << 18, FLOWS)})
"""Room for flows in the tables that are shared."""
_POLL_S = 0.05
_REFUSALS = {"table_full", "flow_busy"}
_WORKS = ("sweep", "count", "list")
_CONTENDED = {
    "one": "packets of whole lives, one thread",
    "own": "two threads, flows of their own",
    "swept": "one thread, and a sweep on another CPU",
    "few": "one thread, few flows",
    "same": "two threads, the same few flows",
}


def run() -> dict[str, Any]:
    """Measure both families."""
    return {
        "machine": machine(),
        "flows": FLOWS,
        "rounds": ROUNDS,
        "families": [measure(version, FLOWS) for version in (4, 6)],
    }


def measure(version: int, flows: int) -> dict[str, Any]:
    """Return one family's figures. Raises RefusedError when a flow is lost, crossed or doubled."""
    with load(version, flows, **_PATIENT) as full:
        opened = _open(full, flows)
        held = _hold(full, flows)
        beside = _beside(full, version, flows) | {
            "bite_ms": _bites(full, version),
            "harness": _harness(full, flows),
        }
    with load(version, 1 << 18, **_BUSY) as busy:
        contention = _contend(busy)
    return {
        "version": version,
        "open": opened,
        "held": held,
        **beside,
        "contention": contention,
        "share": {size: share(version, size, **_PATIENT) for size in _SHARING},
    }


def _harness(table: Load, flows: int) -> dict[str, Any]:
    """Measure what making and judging packets costs, and how much more of it two CPUs do."""
    one, two = (
        [table.harness(flows, PACKETS, threads) for _ in range(ROUNDS)] for threads in (1, 2)
    )
    return {
        "ns": spread([records[0].run_ns for records in one]),
        "by_two": ratios([rate(records) for records in two], [rate(records) for records in one]),
    }


def _open(table: Load, flows: int) -> dict[str, Any]:
    """Open all flows in rounds, half of each round by two threads; measure packets meanwhile."""
    found: dict[str, list[list[Record]]] = {
        "new_1": [],
        "new_2": [],
        "established_1": [],
        "established_2": [],
    }
    edges = [flows * number // ROUNDS for number in range(ROUNDS + 1)]
    for first, end in itertools.pairwise(edges):
        half = (first + end) // 2
        one = [(half - first, first, half - first)]
        found["new_1"].append(table.lead(_SYN, one))
        middle = (half + end) // 2
        two = [(middle - half, half, middle - half), (end - middle, middle, end - middle)]
        found["new_2"].append(table.lead(_SYN, two))
        _check(table.lead(_REST, [(end - first, first, end - first)]))
        for threads in (1, 2):
            records = table.lead(_ESTABLISHED, [(PACKETS, 0, end)] * threads, at_random=True)
            found[f"established_{threads}"].append(records)
    rates = _rates(found)
    return {
        "packets_per_s": {key: spread(values, 0) for key, values in rates.items()},
        "established_by_new": ratios(rates["established_1"], rates["new_1"]),
        "new_by_two": ratios(rates["new_2"], rates["new_1"]),
        "new_together": spread([together(records) for records in found["new_2"]], 2),
        "established_by_two": ratios(rates["established_2"], rates["established_1"]),
    }


def _rates(found: Mapping[str, list[list[Record]]]) -> dict[str, list[float]]:
    return {key: [rate(records) for records in rounds] for key, rounds in found.items()}


def _check(records: list[Record]) -> None:
    """Refuse a result in which any but a first packet went wrong."""
    for record in records:
        wrong = (*record.missed[1:], record.crossed, record.moved)
        refuse_unless(not any(wrong), f"packets did not go where they should: {record}")


def _hold(table: Load, flows: int) -> dict[str, Any]:
    """Use every flow once more and count them all."""
    (record,) = table.lead(USE, [(flows, 0, flows)])
    _check([record])
    found = census(table.runner.maps, table.lives.version)
    refuse_unless(found.whole, f"flows and ports do not agree: {found}")
    expected = flows - record.missed[0]
    refuse_unless(found.flows == expected, f"{found.flows} flows are there, not {expected}")
    _locks_are_free(table)
    return {"refused": record.missed[0], "dropped": _dropped(table), **attrs.asdict(found)}


def _dropped(table: Load) -> dict[str, int]:
    """Return packets that were not forwarded so far, by reason: the first ones of refused flows."""
    good = {Reason.FORWARDED, Reason.RETURNED}
    found: dict[str, int] = {}
    for number, leaves in table.runner.maps["gale_service_stats"].items():
        reason, packets = Reason(number % len(Reason)), sum(leaf["packets"] for leaf in leaves)
        if packets and reason not in good:
            found[reason.name.lower()] = found.get(reason.name.lower(), 0) + packets
    refuse_unless(found.keys() <= _REFUSALS, f"packets were dropped: {found}")
    return found


def _locks_are_free(table: Load) -> None:
    held = sum(1 for _, lock in table.runner.maps["l4_nat_locks"].items() if lock)
    refuse_unless(not held, f"{held} locks are held by nobody")


def _beside(table: Load, version: int, flows: int) -> dict[str, Any]:
    """Measure packets beside a sweep, a count and a whole listing, and those themselves."""
    works: tuple[Callable[[], None], ...] = (
        lambda: _sweep(table, version),
        lambda: _count(table, version, flows),
        lambda: _list(table, flows),
    )
    found = {}
    for name, work in zip(_WORKS, works, strict=True):
        alone, meanwhile, took = [], [], []
        for _ in range(ROUNDS):
            alone.append(_alone(table, flows))
            packet_ns, work_s = table.beside(_ESTABLISHED, flows, work)
            meanwhile.append(packet_ns)
            took.append(1000 * work_s)
        found[name] = {
            "ms": spread(took),
            "packet_ns": spread(meanwhile),
            "packet_alone_ns": spread(alone),
            "packet_ratio": ratios(meanwhile, alone),
        }
    return found


def _alone(table: Load, flows: int) -> float:
    (record,) = table.lead(_ESTABLISHED, [(PACKETS, 0, flows)], at_random=True)
    return record.run_ns


def _sweep(table: Load, version: int) -> None:
    """Sweep flows and ports from end to end."""
    for what in What:
        first, done = 0, False
        while not done:
            part = sweep(table.runner, what, version, first, _BITE)
            first, done = part.next, part.done


def _bites(table: Load, version: int) -> dict[str, float]:
    """Return the milliseconds of what the sweeper does at a time, with nothing beside it."""
    took = []
    for _ in range(_BITES):
        began = time.perf_counter()
        sweep(table.runner, What.FLOWS, version, 0, BITE)
        took.append(1000 * (time.perf_counter() - began))
    return spread(took)


def _count(table: Load, version: int, flows: int) -> None:
    """Count the entries in use: their words are one column of the mapped array."""
    name = f"l4_nat_flows{version}"
    entries = EntryTable(table.runner.maps[name], version)
    words = entries.words(0, 4 * table.runner.maps[name].max_entries)
    found = sum(map(USED.__le__, words))
    refuse_unless(found >= flows * 0.999, f"only {found} flows were counted")


def _list(table: Load, flows: int) -> None:
    """Read every flow as `galelb flows` does."""
    view = table.runner.view()
    found = sum(1 for _ in table.forwarder.flows(table.runner, view, limit=flows + 1))
    refuse_unless(found >= flows * 0.999, f"only {found} flows were read")


def _contend(table: Load) -> dict[str, Any]:
    """Open, use and close flows: one thread, two with flows of their own, two with the same."""
    lives = max(1, PACKETS // len(_LIFE))
    mine, other = (lives, 0, _BUSY_FLOWS), (lives, _BUSY_FLOWS, _BUSY_FLOWS)
    few = (lives, 2 * _BUSY_FLOWS, _FEW_FLOWS)
    found: dict[str, list[list[Record]]] = {name: [] for name in _CONTENDED}
    for _ in range(ROUNDS):
        _outlast_quarantine(table)
        found["one"].append(_lives(table, [mine]))
        found["own"].append(_lives(table, [mine, other]))
        with _sweeping(table):
            found["swept"].append(_lives(table, [mine]))
        found["few"].append(_lives(table, [few]))
        found["same"].append(_lives(table, [few, few]))
    after = census(table.runner.maps, table.lives.version)
    refuse_unless(after.whole, f"flows and ports do not agree: {after}")
    _locks_are_free(table)
    rates = _rates(found)
    return {
        "packets_per_s": {key: spread(values, 0) for key, values in rates.items()},
        "own_by_one": ratios(rates["own"], rates["one"]),
        "swept_by_one": ratios(rates["swept"], rates["one"]),
        "same_by_few": ratios(rates["same"], rates["few"]),
        "own_together": spread([together(records) for records in found["own"]], 2),
        "same_together": spread([together(records) for records in found["same"]], 2),
    }


def _outlast_quarantine(table: Load) -> None:
    """Wait until the ports of all flows that were closed may be given again: a round needs many."""
    runner, began = table.runner, current_tick(table.runner)
    ticks = runner.world.host.ticks(_BUSY["port_quarantine"]) + 2
    while (current_tick(runner) - began) % _TICKS < ticks:
        time.sleep(_POLL_S)


def _lives(table: Load, work: list[tuple[int, int, int]]) -> list[Record]:
    """Lead lives; of those that no other thread can end none may go wrong."""
    records = table.lead(_LIFE, work, at_random=work[0][2] == _FEW_FLOWS)
    refuse_unless(not sum(r.crossed for r in records), f"answers reached others: {records}")
    if len(set(work)) == len(work):
        _check(records)
        ended = sum(record.ended for record in records)
        refuse_unless(ended > 0.99 * sum(n for n, _, _ in work), f"flows were refused: {records}")
    return records


@contextmanager
def _sweeping(table: Load) -> Iterator[None]:
    """Have a thread that sweeps all the time."""
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            _sweep(table, table.lives.version)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def describe(result: Mapping[str, Any]) -> str:
    """Return lines for people, least, median and most of rounds."""
    lines = [f"  {'':<58}{'min':>10}{'median':>10}{'max':>10}"]
    for one in result["families"]:
        held = one["held"]
        lines.append(
            f"  IPv{one['version']}: {held['flows']:,} flows held, {held['refused']} refused;"
            f" packets dropped: {held['dropped'] or 'none'}"
        )
        lines += [*_opened(one["open"]), *_meanwhile(one), *_contended(one["contention"])]
        for size, found in one["share"].items():
            lines += shared_lines(size, found)
    return "\n".join(lines)


def _millions(rates: Mapping[str, float]) -> dict[str, float]:
    return {key: round(value / 1e6, 2) for key, value in rates.items()}


def _opened(found: Mapping[str, Any]) -> Iterator[str]:
    for key, name in (("new", "new flows"), ("established", "packets of open flows")):
        for threads in (1, 2):
            rates = found["packets_per_s"][f"{key}_{threads}"]
            yield line(f"{name}, {threads} CPU", _millions(rates), "million/s")
        yield line(f"{name}, 2 CPUs by 1", found[f"{key}_by_two"], "")
    yield line("new flows, share of time in which both CPUs opened them", found["new_together"], "")
    yield line("packets of open flows by new flows, 1 CPU", found["established_by_new"], "")


def _meanwhile(found: Mapping[str, Any]) -> Iterator[str]:
    for name in _WORKS:
        yield line(f"{name} all", found[name]["ms"], "ms")
        yield line(f"packets meanwhile by packets alone: {name}", found[name]["packet_ratio"], "")
    yield line("a bite of the sweeper", found["bite_ms"], "ms")
    yield line("making and judging a packet", found["harness"]["ns"], "ns")
    yield line("making and judging packets, 2 CPUs by 1", found["harness"]["by_two"], "")


def _contended(found: Mapping[str, Any]) -> Iterator[str]:
    for key, name in _CONTENDED.items():
        yield line(name, _millions(found["packets_per_s"][key]), "million/s")
    yield line("two threads by one, flows of their own", found["own_by_one"], "")
    yield line("share of time in which both ran, flows of their own", found["own_together"], "")
    yield line("one thread with a sweep by without", found["swept_by_one"], "")
    yield line("two threads by one, the same few flows", found["same_by_few"], "")
    yield line("share of time in which both ran, few flows", found["same_together"], "")


def shared_lines(size: int, found: Mapping[str, Any]) -> Iterator[str]:
    """Return lines about sharing flows in tables with so much room."""
    yield f"  sharing, room for {size:,} flows"
    for key, what in (
        ("nothing", "nothing new"),
        ("few", "5,000 new"),
        ("many", f"{SHARED:,} new"),
    ):
        yield line(f"changes(), {what}", found[f"{key}_ms"], "ms")
    yield line(f"accept() of {SHARED:,} flows", found["accept_ms"], "ms")
    yield line("flows taken in", _millions(found["accepted_per_s"]), "million/s")
