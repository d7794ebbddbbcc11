# SPDX-License-Identifier: Apache-2.0
"""Runs a loaded program on one packet (BPF_PROG_TEST_RUN), without any interface involved."""

from __future__ import annotations

import ctypes
import struct

import attrs

from galelb.bpf.syscalls import bpf, pointer
from galelb.errors import BpfError

__all__ = ["RunResult", "run_tc", "run_xdp"]

_PROG_TEST_RUN = 10
_MARGIN = 4096  # what a program may add to a packet, and more
_SKB_SIZE = 192


@attrs.frozen
class RunResult:
    """What a program returned, the packet as it left it, and the time of one run."""

    verdict: int
    data: bytes
    duration_ns: int


def run_xdp(
    prog_fd: int,
    packet: bytes,
    *,
    ingress_ifindex: int | None = None,
    rx_queue: int = 0,
    repeat: int = 1,
) -> RunResult:
    """Run an XDP program; blocks for as long as `repeat` runs take.

    `ingress_ifindex` must exist in the calling thread's network namespace. With repeat > 1
    each run gets what the last one left. Packets of more than about 3,500 bytes need a program
    loaded with fragment support. Raises BpfError.
    """
    context = None
    if ingress_ifindex is not None:
        # struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress
        context = struct.pack("6I", 0, len(packet), 0, ingress_ifindex, rx_queue, 0)
    return _run(prog_fd, packet, context, repeat)


def run_tc(
    prog_fd: int,
    frame: bytes,
    *,
    ifindex: int | None = None,
    ingress_ifindex: int = 0,
    mark: int = 0,
    gso_segs: int = 0,
    gso_size: int = 0,
    wire_len: int = 0,
    repeat: int = 1,
) -> RunResult:
    """Run a TC program on a frame that starts with its Ethernet header; see run_xdp.

    The kernel lets a test set neither the skb's VLAN tag nor a partial checksum: a tag in the
    frame stays in the frame, and both cases of real skbs need real traffic. Raises BpfError.
    """
    fields = {8: mark, 36: ingress_ifindex, 40: ifindex or 0}
    fields |= {160: wire_len, 164: gso_segs, 176: gso_size}
    context = bytearray(_SKB_SIZE)
    for offset, value in fields.items():
        struct.pack_into("I", context, offset, value)
    return _run(prog_fd, frame, bytes(context), repeat)


def _run(prog_fd: int, packet: bytes, context: bytes | None, repeat: int) -> RunResult:
    data_in = ctypes.create_string_buffer(packet, len(packet))
    data_out = ctypes.create_string_buffer(len(packet) + _MARGIN)
    context_in = ctypes.create_string_buffer(context, len(context)) if context else None
    # prog_fd, retval, sizes of data in and out; data; repeat, duration, sizes of contexts in
    # and out; contexts; flags, cpu, batch_size
    head = struct.pack("4I", prog_fd & 0xFFFFFFFF, 0, len(packet), len(data_out))
    data = struct.pack("2Q", pointer(data_in), pointer(data_out))
    counts = struct.pack("4I", repeat, 0, len(context or b""), 0)
    tail = struct.pack("2Q4I", pointer(context_in), 0, 0, 0, 0, 0)
    attributes = ctypes.create_string_buffer(head + data + counts + tail, 80)
    try:
        bpf(_PROG_TEST_RUN, attributes)
    except OSError as error:
        raise BpfError(f"test run of {len(packet)} bytes: {error.strerror}") from None
    verdict, _, size = struct.unpack_from("3I", attributes, 4)
    (duration_ns,) = struct.unpack_from("I", attributes, 36)
    return RunResult(verdict, data_out.raw[:size], duration_ns)
