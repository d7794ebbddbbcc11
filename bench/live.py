# SPDX-License-Identifier: Apache-2.0
"""Sends real packets at full speed: BPF_PROG_TEST_RUN with live frames."""

from __future__ import annotations

import ctypes
import struct

from galelb.bpf.syscalls import bpf, pointer

__all__ = ["send"]

_PROG_TEST_RUN = 10
_LIVE_FRAMES = 2
_BATCH = 64


def send(program: int, ifindex: int, size: int, packets: int) -> None:
    """Run a program (its fd) on so many new frames of `size` bytes; XDP_TX sends by `ifindex`.

    The interface is one of the calling thread's namespace, with XDP or GRO on. What the program
    wrote stays in the frames, which come back. Blocks; raises OSError.
    """
    data = ctypes.create_string_buffer(size)
    # struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress
    context = ctypes.create_string_buffer(struct.pack("6I", 0, size, 0, ifindex, 0, 0))
    # prog_fd, retval, sizes of data in and out; data; repeat, duration, sizes of contexts in
    # and out; contexts; flags, cpu, batch_size
    attributes = ctypes.create_string_buffer(
        struct.pack("4I", program, 0, size, 0)
        + struct.pack("2Q", pointer(data), 0)
        + struct.pack("4I", packets, 0, 24, 0)
        + struct.pack("2Q4I", pointer(context), 0, _LIVE_FRAMES, 0, _BATCH, 0),
        80,
    )
    bpf(_PROG_TEST_RUN, attributes)
