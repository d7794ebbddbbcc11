# SPDX-License-Identifier: Apache-2.0
"""Real packets under TC, where a checksum may be partial and one packet may be many."""

from __future__ import annotations

from typing import ClassVar

import pytest

from galelb.testing.checksums import checksum_problems
from galelb.testing.contract.stage import Stage, of_kinds
from galelb.testing.dissect import describe, dissect
from galelb.testing.packets import l3_offset
from galelb.testing.wires import Wires

__all__ = ["WireRules"]

SEGMENT = 1000
SEGMENTS = 5
RULE = "Under TC only the kernel's helpers change checksums: they may be partial there."


class WireRules(Stage):
    """Part of the contract: the TC program on real interfaces."""

    _wires: ClassVar[dict[str, Wires]]

    @classmethod
    def setup_class(cls) -> None:
        """Begin without wires."""
        super().setup_class()
        cls._wires = {}

    @pytest.mark.parametrize("offload", [True, False], ids=["offload", "no-offload"])
    @of_kinds("tcp4", "udp4", "tcp6", "udp6")
    def test_checksums_are_right_on_the_wire(self, tc_kind: str, offload: bool) -> None:
        """With transmit checksum offload on and off."""
        (data,) = self._carried(tc_kind, offload, b"payload")

        assert checksum_problems(data) == [], f"{RULE} Got: {describe(data)}"

    @of_kinds("udp4", "udp6")
    def test_several_packets_in_one_arrive_as_several(self, tc_kind: str) -> None:
        """A datagram that is to be cut on the way out (GSO), or was merged on the way in."""
        rule = "A packet that is several (GSO) is forwarded whole, and cut when it leaves."
        body = bytes(n % 251 for n in range(SEGMENT * SEGMENTS))

        frames = self._carried(tc_kind, True, body, segment=SEGMENT)

        packets = [dissect(data) for data in frames]
        bodies = [f[p.l4 + 8 : p.end] for f, p in zip(frames, packets, strict=True) if p]
        assert b"".join(bodies) == body, rule
        assert [checksum_problems(data) for data in frames] == [[]] * SEGMENTS, rule

    def _carried(
        self, kind: str, offload: bool, payload: bytes, *, segment: int = 0
    ) -> list[bytes]:
        """Send for real, and return the frames that left for a node, out of their tunnels."""
        runner, bare = self.runner("tc"), self.make_model().unwrapped
        if "tc" not in self._wires:
            self._wires["tc"] = Wires(runner)
        wires, size = self._wires["tc"], 0

        def enough(data: bytes) -> bool:
            nonlocal size
            size += segment
            return size >= len(payload) or not segment

        with wires.attached(offload=offload):
            frames = wires.carry(self.services[kind], payload, segment=segment, enough=enough)
        inside = [(data, bare(data[l3_offset(data) :])) for data in frames]
        types = {4: b"\x08\x00", 6: b"\x86\xdd"}
        return [data[:12] + types[ip[0] >> 4] + ip for data, ip in inside]
