# SPDX-License-Identifier: Apache-2.0
"""Lets calls that run an XDP program many times begin at once, so that threads do run together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from socket import if_nametoindex

from galelb.bpf.attach import attach_xdp
from galelb.model import XdpMode
from galelb.testing.kernel import Sandbox

__all__ = ["ready"]


@contextmanager
def ready(sandbox: Sandbox, programs: Sequence[int]) -> Iterator[None]:
    """Keep XDP programs (fds) where the kernel can run them at once. One at a time per sandbox.

    BPF_PROG_TEST_RUN with repeat > 1 enters a program in the kernel's XDP dispatcher and takes it
    out again; each time it waits for an RCU grace period (16 ms and more), and other calls wait in
    line: threads that begin together would run one after the other. A program that is attached to
    an interface is there already. These interfaces stay down: no packet comes by them.
    """
    pairs = [(f"ready{n}", f"ready{n}x") for n in range(math.ceil(len(programs) / 2))]
    ends = [name for pair in pairs for name in pair]
    with ExitStack() as stack:
        for name, peer in pairs:
            sandbox.command("ip", "link", "add", name, "type", "veth", "peer", "name", peer)
            stack.callback(sandbox.command, "ip", "link", "del", name)
        for name, program in zip(ends, programs, strict=False):
            at = sandbox.run(if_nametoindex, name), name
            sandbox.run(attach_xdp, *at, program, XdpMode.NATIVE)
        yield
