# SPDX-License-Identifier: Apache-2.0
"""What programs captured becomes frames with names, tags and verdicts; and lines for people."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from scapy.layers.inet import IP
from scapy.layers.l2 import Dot1Q, Ether

from galelb.abi import Reason
from galelb.capture.pcapng import Direction, Frame, Reader, Statistics, VerdictKind
from galelb.capture.records import Encoder, Names, comment_of, facts_of
from galelb.capture.show import Packet, Pairs, as_json, as_line
from galelb.testing.packets import frame

EPOCH_NS = 1_795_633_218_000_000_000
CAME = frame("203.0.113.9", "198.51.100.1", sport=40001, dport=80)
LEFT = frame("10.0.0.1", "10.0.0.11", sport=1024, dport=8080)
NAMES = Names(
    interface={2: "eth0", 3: "eth1"}.get,  # type: ignore[arg-type]
    service={1: "web"}.get,  # type: ignore[arg-type]
    node={5: "10.0.0.11"}.get,  # type: ignore[arg-type]
)


def record(came: bytes = CAME, left: bytes = LEFT, **more: int) -> tuple[dict[str, Any], bytes]:
    values = {
        "time": 1_500,
        "verdict": 4,
        "tc": 0,
        "reason": int(Reason.FORWARDED),
        "service": 1,
        "node": 5,
        "in": 2,
        "out": 3 if left else 0,
        "in_len": len(came),
        "out_len": len(left),
        "in_kept": len(came),
        "out_kept": len(left),
        "in_tag": 0,
        "out_tag": 0,
        "egress": 0,
    }
    return values | more, came + left


def dropped(**more: int) -> tuple[dict[str, Any], bytes]:
    return record(left=b"", verdict=1, reason=int(Reason.NO_NODE), node=0, **more)


def read(*records: tuple[dict[str, Any], bytes]) -> tuple[Reader, list[Frame | Statistics]]:
    encoder, reader = Encoder(NAMES, 256, EPOCH_NS), Reader()
    data = encoder.begin("galelb 0", [2, 3])
    data += b"".join(encoder.packet(*one) for one in records)
    return reader, list(reader.feed(data + encoder.statistics(2_000, 9)))


def packets(*records: tuple[dict[str, Any], bytes]) -> list[Packet]:
    reader, found = read(*records)
    return list(Pairs().take(found, reader.interfaces))


def test_a_packet_is_two_frames_that_belong_together() -> None:
    reader, (came, left, counts) = read(record())

    assert isinstance(came, Frame)
    assert isinstance(left, Frame)
    assert (CAME, LEFT) == (came.data, left.data)
    assert (Direction.INBOUND, Direction.OUTBOUND) == (came.direction, left.direction)
    assert came.packet_id == left.packet_id
    assert EPOCH_NS + 1_500 == came.time_ns == left.time_ns
    names = [reader.interfaces[one.interface].name for one in (came, left)]
    assert ["eth0", "eth1"] == names
    assert (VerdictKind.XDP, 4) == (came.kind, came.verdict)
    assert Statistics(time_ns=EPOCH_NS + 2_000, captured=1, lost=9) == counts


def test_interfaces_are_described_once_for_each_direction() -> None:
    reader, found = read(record(), record(), dropped())

    assert [("eth0", 260), ("eth1", 260), ("eth1", 260)] == [
        (one.name, one.snaplen) for one in reader.interfaces
    ]
    assert 6 == len(found)


def test_a_dropped_packet_is_one_frame() -> None:
    (packet,) = packets(dropped())

    assert packet.left is None
    assert {"verdict": "drop", "reason": "no_node", "service": "web"} == packet.facts


def test_what_goes_back_by_the_same_way_needs_no_next_hop() -> None:
    (packet,) = packets(record(out=0, verdict=3, reason=int(Reason.ICMP_SENT), node=0))

    assert ("eth0", "tx") == (packet.facts["out"], packet.facts["verdict"])


@pytest.mark.parametrize(
    ("tc", "verdict", "name"),
    [
        (0, 1, "drop"),
        (0, 2, "pass"),
        (0, 3, "tx"),
        (0, 4, "redirect"),
        (1, 0, "pass"),
        (1, 2, "drop"),
        (1, 7, "redirect"),
        (1, 9, "9"),
    ],
)
def test_verdicts_have_other_numbers_in_tc(tc: int, verdict: int, name: str) -> None:
    (packet,) = packets(record(tc=tc, verdict=verdict))

    assert name == packet.facts["verdict"]
    assert (VerdictKind.TC if tc else VerdictKind.XDP) == packet.came.kind


def test_numbers_without_names_stay_numbers() -> None:
    (packet,) = packets(record(service=8, node=9, reason=99, out=77))

    assert ("8", "9", "99", "if77") == tuple(
        packet.facts[key] for key in ("service", "node", "reason", "out")
    )


def test_a_tag_that_the_kernel_keeps_apart_is_put_where_it_was() -> None:
    (packet,) = packets(record(in_tag=0x10000 | 0x6005))

    seen = Ether(packet.came.data)
    assert (5, 3) == (seen[Dot1Q].vlan, seen[Dot1Q].prio)
    assert bytes(Ether(CAME)[IP]) == bytes(seen[IP])
    assert len(CAME) + 4 == packet.came.length
    assert packet.left is not None
    assert packet.left.data == LEFT


def test_a_tag_of_zero_is_a_tag() -> None:
    (packet,) = packets(record(in_tag=0x10000))

    assert 0 == Ether(packet.came.data)[Dot1Q].vlan


def test_a_frame_that_was_cut_keeps_its_length() -> None:
    values, _ = record(CAME[:40], LEFT[:50], in_len=9014, out_len=9018)

    (packet,) = packets((values, CAME[:40] + LEFT[:50]))

    assert (CAME[:40], 9014) == (packet.came.data, packet.came.length)
    assert packet.left is not None
    assert (LEFT[:50], 9018) == (packet.left.data, packet.left.length)


def test_a_new_name_is_used_once_it_is_looked_for() -> None:
    names = {1: "web"}
    encoder = Encoder(attrs.evolve(NAMES, service=names.get), 256, EPOCH_NS)
    reader, pairs = Reader(), Pairs()
    data = encoder.begin("galelb 0", [2]) + encoder.packet(*record())
    names[1] = "shop"
    encoder.look_again()
    data += encoder.packet(*record())

    seen = [one.facts["service"] for one in pairs.take(reader.feed(data), reader.interfaces)]

    assert ["web", "shop"] == seen


def test_comments_are_words() -> None:
    facts = {"verdict": "drop", "reason": "no_node", "service": "", "node": "fd00::1"}

    assert "verdict=drop reason=no_node node=fd00::1" == comment_of(facts)
    assert facts_of(comment_of(facts)) == {k: v for k, v in facts.items() if v}


def test_frames_that_come_in_pieces_are_one_packet() -> None:
    reader, found = read(record(), dropped())
    pairs = Pairs()

    packets = [one for each in found for one in pairs.take([each], reader.interfaces)]

    assert [LEFT, None] == [one.left and one.left.data for one in packets]
    assert (2, 9) == (pairs.packets, pairs.statistics.lost)


def _line(one: tuple[dict[str, Any], bytes]) -> str:
    (packet,) = packets(one)
    return as_line(packet).partition(" ")[2]


def test_lines_say_what_came_and_what_became_of_it() -> None:
    before = "eth0 203.0.113.9:40001 > 198.51.100.1:80 tcp [S], 54 bytes"
    tunnel = bytes(Ether(LEFT[:14]) / IP(src="10.0.0.1", dst="10.0.0.11") / Ether(CAME)[IP])

    assert (
        f"{before} -> web forwarded to node 10.0.0.11 by eth1, 10.0.0.1:1024 > 10.0.0.11:8080"
        == _line(record())
    )
    assert f"{before} -> web DROPPED: no_node" == _line(dropped())
    assert f"{before} -> passed to the kernel: pass_foreign" == _line(
        record(left=b"", verdict=2, reason=0, service=0, node=0)
    )
    assert f"by eth1, unchanged, to {LEFT[:6].hex(':')}" in _line(
        record(left=LEFT[:12] + CAME[12:])
    )
    assert "by eth1, ipip 10.0.0.1 > 10.0.0.11" in _line(record(left=tunnel))


def test_objects_have_null_for_what_there_is_not() -> None:
    forwarded, lost = (as_json(one) for one in packets(record(), dropped()))

    assert {
        "time": "2026-11-25T19:00:18.000001+00:00",
        "interface": "eth0",
        "packet": "203.0.113.9:40001 > 198.51.100.1:80 tcp [S]",
        "bytes": 54,
        "verdict": "redirect",
        "reason": "forwarded",
        "service": "web",
        "node": "10.0.0.11",
        "out_interface": "eth1",
        "out_packet": "10.0.0.1:1024 > 10.0.0.11:8080 tcp [S]",
        "out_bytes": 54,
    } == forwarded
    absent = {key for key, value in lost.items() if value is None}
    assert {"node", "out_interface", "out_packet", "out_bytes"} == absent
