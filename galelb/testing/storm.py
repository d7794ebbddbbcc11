# SPDX-License-Identifier: Apache-2.0
"""Packets of many flows at the full speed of several CPUs: what finds races in a flow table.

A thread that runs one packet per system call meets another one about never. Here one call runs
a hundred thousand packets: a small program draws each one's port and flags and tail-calls the
program under test.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.resources import files
from types import TracebackType

import attrs

from galelb.bpf import syscalls
from galelb.bpf.maps import close_maps, open_maps
from galelb.bpf.testrun import run_xdp
from galelb.testing.dissect import dissect
from galelb.testing.runner import PacketRunner

__all__ = ["Shower", "Storm"]

FRAME = 128
TCP = 6


@attrs.frozen(kw_only=True)
class Shower:
    """One kind of packets: a frame whose port varies.

    `answers` varies the destination port, else the source port does. `share` draws in a row
    get the same port, so that as many CPUs meet in it; 0 draws at random. `flags` are eight
    values of TCP's flag byte to choose from.
    """

    frame: bytes
    ingress: str
    first: int
    count: int
    share: int = 0
    answers: bool = False
    flags: bytes = b""


class Storm:
    """Up to two kinds of packets on a runner's entry program; a context manager."""

    def __init__(self, runner: PacketRunner, showers: Sequence[Shower]) -> None:
        self._runner = runner
        text = files("galelb.testing").joinpath("storm.bpf.c").read_text()
        compiled = runner.sandbox.compile(text, {"storm": "xdp"})
        self._maps = open_maps(compiled.maps)
        self._fd = syscalls.obj_get(compiled.programs["storm"].pin)
        self._maps["storm_next"].set(0, runner.entry_fd)
        for index, shower in enumerate(showers):
            self._maps["storms"].set(index, self._leaf(shower))

    def __enter__(self) -> Storm:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        close_maps(self._maps)
        os.close(self._fd)

    def rain(self, shower: Shower, packets: int) -> None:
        """Run so many packets in this thread, which must be in the sandbox's namespace."""
        ifindex = self._runner.world.interface(shower.ingress).ifindex
        run_xdp(self._fd, bytes(FRAME), ingress_ifindex=ifindex, repeat=packets)

    def _leaf(self, shower: Shower) -> dict[str, object]:
        packet = dissect(shower.frame)
        assert packet is not None, "a shower needs an IP packet"
        assert len(shower.frame) <= FRAME, f"a shower's frame has at most {FRAME} bytes"
        return {
            "frame": shower.frame.ljust(FRAME, b"\0"),
            "drawn": 0,
            "ifindex": self._runner.world.interface(shower.ingress).ifindex,
            "at": packet.l4 + (2 if shower.answers else 0),
            "first": shower.first,
            "count": shower.count,
            "share": shower.share,
            "flags_at": packet.l4 + 13 if packet.protocol == TCP and shower.flags else 0,
            "flags": shower.flags.ljust(8, b"\0"),
        }
