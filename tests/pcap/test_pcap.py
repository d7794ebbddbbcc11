# SPDX-License-Identifier: Apache-2.0
"""Capture files as others write them: both byte orders, both clocks, both formats, and damage."""

import gzip
import struct

import pytest
from scapy.all import IP, UDP, Ether, PcapNgWriter, PcapReader, rdpcap, wrpcap

from galelb.errors import PcapError
from galelb.pcap import LinkType, PcapWriter, Record, read_pcap

FRAME = bytes(Ether(dst="02:00:00:00:00:01") / IP(src="192.0.2.1", dst="192.0.2.2") / UDP())
SECOND = 1_000_000_000


def classic(order="<", magic=0xA1B2C3D4, extra=b"", link=1, version=(2, 4), records=None):
    head = struct.pack(f"{order}IHHiIII", magic, *version, 0, 0, 65535, link)
    if records is None:
        records = [(7, 123, FRAME, len(FRAME))]
    for seconds, fraction, data, length in records:
        head += struct.pack(f"{order}IIII", seconds, fraction, len(data), length) + extra + data
    return head


def block(order, kind, body):
    body += bytes(-len(body) % 4)
    size = len(body) + 12
    return struct.pack(f"{order}II", kind, size) + body + struct.pack(f"{order}I", size)


def section(order="<", major=1):
    return block(order, 0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, major, 0, -1))


def interface(order="<", link=1, options=b"", snaplen=0):
    return block(order, 1, struct.pack(f"{order}HHI", link, 0, snaplen) + options)


def option(order, code, value):
    return struct.pack(f"{order}HH", code, len(value)) + value + bytes(-len(value) % 4)


def enhanced(order="<", data=FRAME, number=0, ticks=1, length=None):
    length = len(data) if length is None else length
    head = struct.pack(f"{order}5I", number, ticks >> 32, ticks & 0xFFFFFFFF, len(data), length)
    return block(order, 6, head + data + bytes(-len(data) % 4))


def read(tmp_path, content):
    path = tmp_path / "in.pcap"
    path.write_bytes(content)
    return list(read_pcap(path))


def problem(tmp_path, content):
    """Return what was read before the error, and the error."""
    path = tmp_path / "in.pcap"
    path.write_bytes(content)
    found = []
    with pytest.raises(PcapError) as error:
        found.extend(read_pcap(path))
    return len(found), str(error.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("magic", "tick_ns", "extra"),
    [(0xA1B2C3D4, 1000, b""), (0xA1B23C4D, 1, b""), (0xA1B2CD34, 1000, bytes(8))],
)
def test_every_classic_form_is_read(tmp_path, order, magic, tick_ns, extra):
    found = read(tmp_path, classic(order, magic, extra))

    time_ns = 7 * SECOND + 123 * tick_ns
    expected = Record(number=1, time_ns=time_ns, link=1, data=FRAME, length=len(FRAME))
    assert [expected] == found


def test_what_was_not_captured_is_known_by_the_length(tmp_path):
    found = read(tmp_path, classic(records=[(1, 0, FRAME[:20], 1500), (2, 0, FRAME, 3)]))

    assert [(20, 1500), (len(FRAME), len(FRAME))] == [(len(r.data), r.length) for r in found]


def test_bits_about_frame_checksums_are_no_part_of_the_link_type(tmp_path):
    assert LinkType.ETHERNET == read(tmp_path, classic(link=0x24000001))[0].link


def test_files_of_scapy_are_read(tmp_path):
    wrpcap(str(tmp_path / "a.pcap"), [Ether(FRAME)] * 3)
    with PcapNgWriter(str(tmp_path / "a.pcapng")) as file:
        for _ in range(3):
            file.write(Ether(FRAME))

    for name in ("a.pcap", "a.pcapng"):
        assert [FRAME] * 3 == [record.data for record in read_pcap(tmp_path / name)]


@pytest.mark.parametrize("order", ["<", ">"])
def test_pcapng_has_interfaces_with_clocks_of_their_own(tmp_path, order):
    nano = option(order, 9, b"\x09")
    binary = option(order, 9, b"\x8a") + option(order, 14, struct.pack(f"{order}q", 100))
    content = section(order) + interface(order) + interface(order, 101, nano)
    content += interface(order, 276, binary)
    content += block(order, 5, b"statistics!!") + enhanced(order, ticks=5)
    content += enhanced(order, number=1, ticks=(1 << 32) + 7) + enhanced(order, number=2, ticks=512)
    found = read(tmp_path, content)

    times = [5000, (1 << 32) + 7, 100 * SECOND + SECOND // 2]
    assert times == [record.time_ns for record in found]
    assert [1, 101, 276] == [record.link for record in found]
    assert [1, 2, 3] == [record.number for record in found]


def test_pcapng_has_sections_simple_and_old_packets(tmp_path):
    simple = block("<", 3, struct.pack("<I", len(FRAME)) + FRAME)
    old = struct.pack(">2H4I", 0, 0, 0, 9, len(FRAME), 2000) + FRAME
    content = section() + interface(snaplen=16) + simple
    content += section(">") + interface(">", 101) + block(">", 2, old)
    found = read(tmp_path, content)

    assert [(FRAME[:16], len(FRAME), 1), (FRAME, 2000, 101)] == [
        (record.data, record.length, record.link) for record in found
    ]


@pytest.mark.parametrize("order", ["<", ">"])
def test_pcapng_tells_who_wrote_it_where_and_which_way(tmp_path, order):
    name = option(order, 2, b"eth0") + option(order, 0, b"")
    written = option(order, 4, b"galelb 1.0") + option(order, 0, b"")
    head = block(order, 0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1) + written)
    packets = b""
    for flags in (1, 2):
        content = struct.pack(f"{order}5I", 0, 0, 0, len(FRAME), len(FRAME)) + FRAME
        content += bytes(-len(FRAME) % 4) + option(order, 2, struct.pack(f"{order}I", flags))
        packets += block(order, 6, content)
    found = read(tmp_path, head + interface(order, options=name) + packets + enhanced(order))

    assert {("galelb 1.0", "eth0", True)} == {(r.writer, r.interface, r.by_galelb) for r in found}
    assert [False, True, False] == [record.outbound for record in found]


HUGE = struct.pack("<IIII", 0, 0, 1 << 30, 1 << 30)
BAD = {
    "empty": (b"", 0, "is empty, not even the head of a capture file"),
    "text": (b"hello, this is text", 0, "is no pcap or pcapng file"),
    "short": (b"\xd4\xc3", 0, "is no pcap or pcapng file"),
    "gzip": (gzip.compress(classic()), 0, "is compressed: unpack it first (gunzip, unzstd)"),
    "version": (classic(version=(9, 1)), 0, "is pcap of version 9.1, only 2.x can be read"),
    "head cut": (classic()[:23], 0, "is cut off in its head"),
    "record head cut": (classic() + bytes(9), 1, "is cut off in packet 2"),
    "record cut": (classic()[:-1], 0, "is cut off in packet 1"),
    "huge": (
        classic() + HUGE,
        1,
        "packet 2 claims to hold 1073741824 bytes, more than any packet has: the file is damaged"
        " from there on",
    ),
    "ng cut": (section() + interface() + enhanced()[:-3], 0, "is cut off before its first packet"),
    "ng cut later": (
        section() + interface() + enhanced() + enhanced()[:9],
        1,
        "is cut off after packet 1",
    ),
    "ng version": (section(major=2), 0, "is pcapng of version 2.0, not 1.x"),
    "ng order": (
        b"\x0a\x0d\x0d\x0a" + bytes(24),
        0,
        "is damaged before its first packet: no byte order",
    ),
    "ng block": (
        section() + struct.pack("<II", 5, 13),
        0,
        "is damaged before its first packet: a block of 13 bytes",
    ),
    "ng lengths": (
        section() + interface() + enhanced()[:-4] + bytes(4),
        0,
        "is damaged before its first packet: a block whose two lengths differ",
    ),
    "ng interface": (
        section() + enhanced(),
        0,
        "is damaged before its first packet: the unknown interface 0",
    ),
    "ng packet": (
        section() + interface() + block("<", 6, struct.pack("<5I", 0, 0, 0, 90, 90) + bytes(8)),
        0,
        "is damaged before its first packet: more bytes than its block",
    ),
    "ng skipped": (
        section() + struct.pack("<II", 5, 1 << 20) + bytes(8),
        0,
        "is cut off before its first packet",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_damage_is_named_after_the_packets_before_it(tmp_path, name):
    content, before, message = BAD[name]

    assert (before, message) == problem(tmp_path, content)


def test_a_file_of_any_bytes_is_read_or_refused(tmp_path):
    good = section() + interface() + enhanced() + enhanced()
    for content in (good, classic()):
        for at in range(len(content)):
            for value in (0x00, 0xFF):
                damaged = content[:at] + bytes([value]) + content[at + 1 :]
                try:
                    found = read(tmp_path, damaged)
                except PcapError:
                    continue
                assert len(found) <= 2


def test_a_missing_file_is_an_error_with_its_name(tmp_path):
    with pytest.raises(PcapError, match="nowhere: No such file"):
        list(read_pcap(tmp_path / "nowhere"))


def test_what_is_written_is_read_by_others_and_by_us(tmp_path):
    path = tmp_path / "out.pcap"
    with PcapWriter(path) as file:
        file.write(5 * SECOND + 1_234_999, FRAME)
        file.write(6 * SECOND, FRAME[:30], 900)

    first, second = read_pcap(path)
    assert (FRAME, 5 * SECOND + 1_234_000) == (first.data, first.time_ns)
    assert (FRAME[:30], 900) == (second.data, second.length)
    assert FRAME == bytes(rdpcap(str(path))[0])
    with PcapReader(str(path)) as reader:
        assert 900 == [packet.wirelen for packet in reader][1]


def test_a_file_that_cannot_be_written_is_an_error_with_its_name(tmp_path):
    with pytest.raises(PcapError, match=r"nowhere/out\.pcap: cannot be written: No such file"):
        PcapWriter(tmp_path / "nowhere" / "out.pcap")
