# SPDX-License-Identifier: Apache-2.0
"""Makes rates from samples; has no clock, the samples bring their time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from galelb.commands.text import endpoint
from galelb.top.values import Drop, Frame, NodeRow, Rate, Sample, ServiceRow
from galelb.top.wording import happening

__all__ = ["HISTORY", "Meter", "rate_between"]

Json = Mapping[str, Any]

HISTORY = 120
"""Samples that sparklines can show."""
_NO_DROP = frozenset(
    {
        "pass_foreign",
        "pass_unparsable",
        "forwarded",
        "returned",
        "icmp_translated",
        "fragment_followed",
        "icmp_sent",
        "reset_sent",
    }
)
"""Reasons of packets that went on their way or were answered; a test compares with abi."""
_TOTAL = ("total", "")


class Meter:
    """Takes samples, and has the frame after the last one."""

    def __init__(self) -> None:
        self._last: Sample | None = None
        self._histories: dict[tuple[str, str], deque[float | None]] = {}
        self.frame: Frame | None = None
        """None before the first sample."""

    def take(self, sample: Sample) -> Frame:
        """Return the frame of a new sample."""
        before, self._last = self._last, sample
        self.frame = Frame(
            instance=sample.status["instance"],
            version=sample.status["version"],
            uptime_s=sample.status["uptime_s"],
            problem="" if sample.status["ready"] else sample.status["not_ready_reason"],
            total=self._rate(_TOTAL, _total(before), _total(sample), _elapsed(before, sample)),
            flows=sample.status["flows"],
            lag_s=sample.status.get("event_loop_lag_s", 0.0),
            nodes=tuple(self._nodes(before, sample)),
            services=tuple(self._services(before, sample)),
            drops=tuple(_drops(before, sample)),
            events=tuple(happening(event) for event in reversed(sample.events)),
        )
        self._forget(sample)
        return self.frame

    def lost(self, trouble: str) -> None:
        """Note that there is no answer now; the frame stays as the last one known."""
        if self.frame is not None:
            self.frame = attrs.evolve(self.frame, trouble=trouble)

    def _nodes(self, before: Sample | None, sample: Sample) -> Iterable[NodeRow]:
        known = {} if before is None else {node["address"]: node for node in before.nodes}
        elapsed = _elapsed(before, sample)
        for node in sample.nodes:
            key = ("node", node["address"])
            rate = self._rate(key, known.get(node["address"]), node, elapsed)
            yield NodeRow(
                name=node["name"] or node["address"],
                state=node["state"],
                draining=node["draining"],
                takes_new_flows=node["takes_new_flows"],
                weight=node.get("effective_weight", node["weight"]),
                rate=rate,
                history=tuple(self._histories[key]),
                note=node["unroutable_reason"] or "",
            )

    def _services(self, before: Sample | None, sample: Sample) -> Iterable[ServiceRow]:
        known = {} if before is None else {one["name"]: one for one in before.services}
        elapsed = _elapsed(before, sample)
        for one in sample.services:
            key = ("service", one["name"])
            rate = self._rate(key, known.get(one["name"]), one, elapsed)
            yield ServiceRow(
                name=one["name"],
                address=endpoint(one["vip"], one["port"], one["protocol"]),
                nodes=one["routable_nodes"],
                rate=rate,
                history=tuple(self._histories[key]),
            )

    def _rate(
        self, key: tuple[str, str], before: Json | None, after: Json | None, elapsed: float
    ) -> Rate | None:
        rate = rate_between(before, after, elapsed)
        history = self._histories.setdefault(key, deque(maxlen=HISTORY))
        history.append(None if rate is None else rate.packets)
        return rate

    def _forget(self, sample: Sample) -> None:
        """Let go of what exists no more, so that a balancer that lives long costs no more."""
        present = {("node", node["address"]) for node in sample.nodes} | {_TOTAL}
        present |= {("service", one["name"]) for one in sample.services}
        for key in self._histories.keys() - present:
            del self._histories[key]


def rate_between(before: Json | None, after: Json | None, elapsed: float) -> Rate | None:
    """Return the traffic between two counts (`packets`, `bytes`); None when it is not known.

    Counters that went back were made anew: nobody knows how far they had come before.
    """
    if before is None or after is None or elapsed <= 0:
        return None
    packets = after["packets"] - before["packets"]
    size = after["bytes"] - before["bytes"]
    if packets < 0 or size < 0:
        return None
    return Rate(packets / elapsed, 8 * size / elapsed)


def _elapsed(before: Sample | None, sample: Sample) -> float:
    return 0.0 if before is None else sample.at - before.at


def _total(sample: Sample | None) -> Json | None:
    if sample is None:
        return None
    return {key: sum(one[key] for one in sample.services) for key in ("packets", "bytes")}


def _drops(before: Sample | None, sample: Sample) -> Iterable[Drop]:
    """Yield what was dropped; a reason that is not listed has had no packets."""
    if before is None:
        return
    known, elapsed = before.status["reasons"], _elapsed(before, sample)
    nothing = {"packets": 0, "bytes": 0}
    found = []
    for reason, count in sample.status["reasons"].items():
        rate = rate_between(known.get(reason, nothing), count, elapsed)
        if reason not in _NO_DROP and rate is not None and rate.packets:
            found.append(Drop(reason, rate.packets))
    yield from sorted(found, key=lambda drop: -drop.per_s)
