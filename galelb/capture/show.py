# SPDX-License-Identifier: Apache-2.0
"""A captured packet as a line for people or an object for programs."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import attrs

from galelb.capture.pcapng import Direction, Frame, Interface, Statistics
from galelb.capture.records import facts_of
from galelb.capture.summary import Summary, summarise

__all__ = ["Packet", "Pairs", "as_json", "as_line"]


@attrs.frozen(kw_only=True)
class Packet:
    """A packet as it came, as it leaves (None: it does not), and what was decided about it."""

    came: Frame
    left: Frame | None
    interface: str
    facts: dict[str, str]


class Pairs:
    """Puts together the two frames of a packet, which follow each other."""

    def __init__(self) -> None:
        self._came: Frame | None = None
        self.statistics = Statistics(time_ns=0, captured=0, lost=0)
        self.packets = 0

    def take(
        self, found: Iterable[Frame | Statistics], interfaces: Sequence[Interface]
    ) -> Iterator[Packet]:
        """Yield what is whole; `interfaces` are those of the file."""
        for one in found:
            if isinstance(one, Statistics):
                self.statistics = one
            elif one.direction is Direction.INBOUND:
                self.packets += 1
                facts = facts_of(one.comment)
                if "out" in facts:
                    self._came = one
                else:
                    yield _packet(one, None, interfaces, facts)
            elif self._came is not None and self._came.packet_id == one.packet_id:
                yield _packet(self._came, one, interfaces, facts_of(one.comment))
                self._came = None


def _packet(
    came: Frame, left: Frame | None, interfaces: Sequence[Interface], facts: dict[str, str]
) -> Packet:
    known = came.interface < len(interfaces)
    name = interfaces[came.interface].name if known else "?"
    return Packet(came=came, left=left, interface=name, facts=facts)


def as_line(packet: Packet) -> str:
    """Return TIME INTERFACE PACKET, BYTES -> DECISION."""
    when = _time(packet.came).astimezone().strftime("%H:%M:%S.%f")
    before = summarise(packet.came.data)
    size = f"{packet.came.length} bytes"
    return f"{when} {packet.interface} {before}, {size} -> {_decision(packet, before)}"


def _decision(packet: Packet, before: Summary) -> str:
    facts = packet.facts
    reason = facts.get("reason", "?")
    words = [facts["service"]] if "service" in facts else []
    if facts.get("verdict") == "drop":
        words.append(f"DROPPED: {reason}")
    elif packet.left is None:
        words.append(f"passed to the kernel: {reason}")
    else:
        words.append(reason)
    if "node" in facts:
        words.append(f"to node {facts['node']}")
    if packet.left is not None:
        words.append(f"by {facts['out']}, {_after(before, packet.left)}")
    return " ".join(words)


def _after(before: Summary, left: Frame) -> str:
    """Return what became of it, without what did not change."""
    now = summarise(left.data)
    if now == before:
        return f"unchanged, to {left.data[:6].hex(':')}"
    if now.inner is not None:
        same = now.inner.ends == before.ends
        return f"{now.what} {now.ends}" if same else str(now)
    return now.ends if now.what == before.what else str(now)


def as_json(packet: Packet) -> dict[str, Any]:
    """Return the keys that docs/reference/api.md lists."""
    facts = packet.facts
    return {
        "time": _time(packet.came).isoformat(timespec="microseconds"),
        "interface": packet.interface,
        "packet": str(summarise(packet.came.data)),
        "bytes": packet.came.length,
        "verdict": facts.get("verdict"),
        "reason": facts.get("reason"),
        "service": facts.get("service"),
        "node": facts.get("node"),
        "out_interface": facts.get("out"),
        "out_packet": None if packet.left is None else str(summarise(packet.left.data)),
        "out_bytes": None if packet.left is None else packet.left.length,
    }


def _time(frame: Frame) -> datetime.datetime:
    seconds, rest = divmod(frame.time_ns, 10**9)
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.replace(microsecond=rest // 1000)
