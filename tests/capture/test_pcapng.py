# SPDX-License-Identifier: Apache-2.0
"""What we write is read by others' programs and by our own reader, in any pieces."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import attrs
import pytest
from scapy.utils import PcapNgReader

from galelb.capture.pcapng import (
    Direction,
    Frame,
    Interface,
    Reader,
    Statistics,
    VerdictKind,
    frame_block,
    interface_block,
    section_block,
    statistics_block,
)
from galelb.errors import ProtocolError
from galelb.pcap import read_pcap
from galelb.testing.packets import frame

TIME_NS = 1_795_633_218_080_261_663
DATA = frame("203.0.113.9", "198.51.100.1", sport=40001, dport=80)
FRAMES = [
    Frame(
        interface=number,
        time_ns=TIME_NS + number,
        data=DATA[: len(DATA) - number],  # of every length modulo four
        length=len(DATA),
        direction=Direction.INBOUND if number % 2 else Direction.OUTBOUND,
        packet_id=7 + number,
        kind=VerdictKind.TC if number % 2 else VerdictKind.XDP,
        verdict=number,
        comment="x" * number,
    )
    for number in range(4)
]
INTERFACES = [Interface(f"eth{number}", "ä" * number, 260) for number in range(4)]
COUNTS = Statistics(time_ns=TIME_NS, captured=4, lost=3)


def whole() -> bytes:
    described = b"".join(map(interface_block, INTERFACES))
    frames = b"".join(map(frame_block, FRAMES))
    return section_block("galelb 0") + described + frames + statistics_block(COUNTS)


@pytest.mark.parametrize("step", [1, 3, 4, 50, 100_000])
def test_the_reader_gives_what_was_written_whatever_the_pieces(step: int) -> None:
    data, reader = whole(), Reader()

    found = [one for at in range(0, len(data), step) for one in reader.feed(data[at : at + step])]

    assert [*FRAMES, COUNTS] == found
    assert INTERFACES == reader.interfaces


def test_scapy_reads_frames_times_lengths_and_comments(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    path.write_bytes(whole())

    with PcapNgReader(str(path)) as reader:
        packets: list[Any] = list(reader)

    assert [bytes(one) for one in packets] == [one.data for one in FRAMES]
    assert [one.wirelen for one in packets] == [len(DATA)] * 4
    assert [int(one.time * 10**9) for one in packets] == [one.time_ns for one in FRAMES]
    assert [one.sniffed_on for one in packets] == [one.name for one in INTERFACES]
    assert packets[3].comments == [b"xxx"]
    assert [one.direction for one in packets] == [2, 1, 2, 1]


def test_a_trace_can_be_made_of_it(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    path.write_bytes(whole())

    records = [(one.time_ns, one.data, one.length) for one in read_pcap(path)]

    assert [(one.time_ns, one.data, one.length) for one in FRAMES] == records


def test_tcpdump_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    path.write_bytes(whole())

    shown = subprocess.run(
        ["tcpdump", "-nr", str(path)], capture_output=True, text=True, check=True
    ).stdout

    assert 4 == len(shown.splitlines())
    assert "203.0.113.9.40001 > 198.51.100.1.80" in shown


def test_a_file_without_packets_is_a_file_for_others(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    path.write_bytes(section_block("galelb 0") + interface_block(INTERFACES[0]))

    done = subprocess.run(["tcpdump", "-nr", str(path)], capture_output=True, check=False)

    assert (0, b"") == (done.returncode, done.stdout)


@pytest.mark.parametrize(
    "data",
    [
        b'{"error": {"code": "x"}}',
        bytes(40),
        section_block("x").replace(b"\x4d\x3c\x2b\x1a", b"\x1a\x2b\x3c\x4d"),
        frame_block(FRAMES[0]),
        section_block("x") + b"\x06\0\0\0\x0d\0\0\0",
        section_block("x") + b"\x06\0\0\0\xff\xff\xff\x7f",
        section_block("x") + b"\x06\0\0\0\x10\0\0\0aaaa\x10\0\0\0",
        section_block("x")
        + frame_block(FRAMES[0])[:20]
        + b"\xff\xff\0\0"
        + frame_block(FRAMES[0])[24:],
    ],
)
def test_what_is_no_capture_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        list(Reader().feed(data))


def test_unknown_blocks_and_options_are_passed_over() -> None:
    strange = b"\x99\0\0\0\x10\0\0\0abcd\x10\0\0\0"
    plain = attrs.evolve(FRAMES[0], comment="")

    assert [plain] == list(Reader().feed(section_block("x") + strange + frame_block(plain)))
