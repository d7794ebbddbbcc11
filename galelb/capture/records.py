# SPDX-License-Identifier: Apache-2.0
"""Makes pcapng of what programs captured: two frames of a packet, and what was decided on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from galelb.abi import Reason
from galelb.capture.pcapng import (
    Direction,
    Frame,
    Interface,
    Statistics,
    VerdictKind,
    frame_block,
    interface_block,
    section_block,
    statistics_block,
)

__all__ = ["VERDICTS", "Encoder", "Names", "comment_of", "facts_of"]

VERDICTS = {
    VerdictKind.XDP: {1: "drop", 2: "pass", 3: "tx", 4: "redirect"},
    VerdictKind.TC: {0: "pass", 2: "drop", 7: "redirect"},
}
_DESCRIPTIONS = {
    Direction.INBOUND: "as it came, before galelb",
    Direction.OUTBOUND: "as it leaves, after galelb",
}
_DECISION = ("tc", "verdict", "reason", "service", "node")
_TAGGED = 0x10000  # GALE_CAPTURE_TAGGED, bpf/capture.h
_TAG = 4
_ETH_TYPE_AT = 12
_VLAN = b"\x81\x00"


@attrs.frozen(kw_only=True)
class Names:
    """What the numbers in records are called; each returns "" for what it does not know."""

    interface: Callable[[int], str]
    service: Callable[[int], str]
    node: Callable[[int], str]


class Encoder:
    """Turns records (`struct gale_capture_record` and the frames behind it) into blocks.

    `epoch_ns` is the time of the epoch at which the clock of the records was 0.
    """

    def __init__(self, names: Names, snaplen: int, epoch_ns: int) -> None:
        self._names = names
        self._snaplen = snaplen + _TAG
        self._epoch_ns = epoch_ns
        self._interfaces: dict[tuple[int, Direction], int] = {}
        self._comments: dict[tuple[int, ...], str] = {}
        self.captured = 0

    def begin(self, application: str, interfaces: Iterable[int]) -> bytes:
        """Return the beginning of a file, which names interfaces that are known already."""
        blocks = [section_block(application)]
        blocks += [self._interface(number, Direction.INBOUND)[1] for number in interfaces]
        return b"".join(blocks)

    def packet(self, record: Mapping[str, Any], frames: bytes) -> bytes:
        """Return the blocks of one packet."""
        self.captured += 1
        kept = record["in_kept"]
        out = record["out"] or record["in"]
        came = frames[:kept], record["in_len"], record["in_tag"]
        leaves = frames[kept : kept + record["out_kept"]], record["out_len"], record["out_tag"]
        comment = self._comment(record, out)
        blocks = self._frame(record, record["in"], Direction.INBOUND, came, comment)
        if record["out_len"]:
            blocks += self._frame(record, out, Direction.OUTBOUND, leaves, comment)
        return blocks

    def statistics(self, now_ns: int, lost: int) -> bytes:
        """Return counts; `now_ns` by the clock of the records."""
        time_ns = now_ns + self._epoch_ns
        return statistics_block(Statistics(time_ns=time_ns, captured=self.captured, lost=lost))

    def look_again(self) -> None:
        """Ask for names anew from here on: they may be others."""
        self._comments.clear()

    def _comment(self, record: Mapping[str, Any], out: int) -> str:
        """Return what was decided; the same few decisions come again and again."""
        key = (*(record[name] for name in _DECISION), out if record["out_len"] else 0)
        comment = self._comments.get(key)
        if comment is None:
            comment = self._comments[key] = comment_of(self._facts(record, out))
        return comment

    def _facts(self, record: Mapping[str, Any], out: int) -> dict[str, str]:
        kind = _kind(record)
        service, node = record["service"], record["node"]
        return {
            "verdict": VERDICTS[kind].get(record["verdict"], str(record["verdict"])),
            "reason": _reason(record["reason"]),
            "service": (self._names.service(service) or str(service)) if service else "",
            "node": (self._names.node(node) or str(node)) if node else "",
            "out": self._name(out) if record["out_len"] else "",
        }

    def _frame(
        self,
        record: Mapping[str, Any],
        ifindex: int,
        direction: Direction,
        content: tuple[bytes, int, int],
        comment: str,
    ) -> bytes:
        number, block = self._interface(ifindex, direction)
        data, length = _with_tag(*content)
        frame = Frame(
            interface=number,
            time_ns=record["time"] + self._epoch_ns,
            data=data,
            length=length,
            direction=direction,
            packet_id=self.captured,
            kind=_kind(record),
            verdict=record["verdict"],
            comment=comment,
        )
        return block + frame_block(frame)

    def _interface(self, ifindex: int, direction: Direction) -> tuple[int, bytes]:
        """Return an interface's number, and its description when it is new."""
        known = self._interfaces.get((ifindex, direction))
        if known is not None:
            return known, b""
        number = self._interfaces[ifindex, direction] = len(self._interfaces)
        described = Interface(self._name(ifindex), _DESCRIPTIONS[direction], self._snaplen)
        return number, interface_block(described)

    def _name(self, ifindex: int) -> str:
        return self._names.interface(ifindex) or f"if{ifindex}"


def comment_of(facts: Mapping[str, str]) -> str:
    """Return what was decided about a packet as KEY=VALUE words; values have no spaces."""
    return " ".join(f"{key}={value}" for key, value in facts.items() if value)


def facts_of(comment: str) -> dict[str, str]:
    """Return the words of a comment."""
    return dict(word.partition("=")[::2] for word in comment.split())


def _kind(record: Mapping[str, Any]) -> VerdictKind:
    return VerdictKind.TC if record["tc"] else VerdictKind.XDP


def _reason(number: int) -> str:
    try:
        return Reason(number).name.lower()
    except ValueError:
        return str(number)


def _with_tag(data: bytes, length: int, tag: int) -> tuple[bytes, int]:
    """Put a tag that the kernel keeps beside the frame where it is on the wire."""
    if not tag & _TAGGED:
        return data, length
    tci = (tag & 0xFFFF).to_bytes(2, "big")
    return data[:_ETH_TYPE_AT] + _VLAN + tci + data[_ETH_TYPE_AT:], length + _TAG
