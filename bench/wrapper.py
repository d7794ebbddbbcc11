# SPDX-License-Identifier: Apache-2.0
"""Measures programs packet by packet: wrapper.bpf.c around them, and around nothing."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import attrs

from bench.machine import RefusedError
from galelb.bpf import syscalls
from galelb.bpf.compile import Unit, compile_units
from galelb.bpf.compose import Part, compose
from galelb.bpf.maps import close_maps, open_maps
from galelb.bpf.testrun import RunResult, run_xdp
from galelb.datapath.sandbox import Sandbox

__all__ = ["CLIENTS", "PORT_BITS", "Flow", "Timing", "Wrapper"]

CLIENTS = 0x64400000
"""The last 32 bits of the first client's address (IPv4: 100.64.0.0)."""
PORT_BITS = 14
"""Every client has so many bits of ports, from 1024 on."""
_TX = 3
_REDIRECT = 4
_SEED = 0x9E3779B97F4A7C15
_ADDRESSES = {4: (26, 30), 6: (34, 50)}
_TRANSPORT = {4: 34, 6: 54}
_FLOW = struct.Struct("<4s4s4s4x")


@attrs.frozen
class Flow:
    """Addresses (their last four bytes) and ports (both, four bytes), as they lie in a frame."""

    saddr: bytes
    daddr: bytes
    ports: bytes


@attrs.frozen
class Timing:
    """Nanoseconds of one packet, the wrapper included: around the program, around the floor."""

    program: int
    floor: int


class Wrapper:
    """The wrapper for frames of one length and a number of flows; a context manager.

    Without `flows` the flow number n is client CLIENTS + (n >> PORT_BITS) at port
    1024 + n % 2**PORT_BITS. With `in_turn` flows come one after the other, else at random.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        frame: bytes,
        count: int,
        *,
        flows: Sequence[Flow] = (),
        in_turn: bool = False,
    ) -> None:
        self.count = count
        self._frame = frame
        self._flows = flows
        version = 6 if frame[12:14] == b"\x86\xdd" else 4
        saddr, daddr = _ADDRESSES[version]
        defines: dict[str, int | str] = {
            "BENCH_LEN": len(frame),
            "BENCH_FLOWS": count,
            "BENCH_CLIENTS": CLIENTS,
            "BENCH_PORT_BITS": PORT_BITS,
            "BENCH_SADDR": saddr,
            "BENCH_DADDR": daddr,
            "BENCH_PORTS": _TRANSPORT[version],
        }
        if flows:
            defines["BENCH_TABLE"] = 1
        if in_turn:
            defines["BENCH_IN_TURN"] = 1
        source = Path(__file__).with_name("wrapper.bpf.c").read_text()
        names = {"bench_wrapper": "xdp", "bench_floor": "xdp"}
        part = Part("wrapper.bpf.c", source)
        unit = Unit(compose([part], defines, sandbox.pins), names)
        self._compiled = compile_units([unit], sandbox.pins)
        self._sandbox = sandbox
        self._maps = open_maps(self._compiled.maps)
        self._fds: dict[str, int] = {}

    def __enter__(self) -> Self:
        for name, program in self._compiled.programs.items():
            self._fds[name] = syscalls.obj_get(program.pin)
        self._maps["bench_templates"].set(0, {"data": self._frame})
        self._rewind()
        if self._flows:
            self._write_flows()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        close_maps(self._maps)
        for fd in self._fds.values():
            os.close(fd)

    def _rewind(self) -> None:
        self._maps["bench_states"].set(0, {"random": _SEED, "runs": 0})

    def _write_flows(self) -> None:
        memory: mmap.mmap = self._maps["bench_flows"].mmap()
        packed = b"".join(_FLOW.pack(f.saddr, f.daddr, f.ports) for f in self._flows)
        memory[: len(packed)] = packed

    @property
    def floor(self) -> int:
        """The program (its fd) that only sends packets back."""
        return self._fds["bench_floor"]

    def run(self, program: int, ifindex: int, packets: int) -> RunResult:
        """Run packets through a program (its fd); blocks.

        Verdict and frame are those of the last packet. Raises RefusedError if it was not sent.
        """
        self._maps["bench_target"].set(0, program)
        result = self._sandbox.run(
            lambda: run_xdp(
                self._fds["bench_wrapper"], self._frame, ingress_ifindex=ifindex, repeat=packets
            )
        )
        if result.verdict not in (_TX, _REDIRECT):
            raise RefusedError(f"verdict {result.verdict}: the program sends nothing")
        return result

    def time(self, program: int, ifindex: int, packets: int, rounds: int) -> list[Timing]:
        """Measure a program and the floor, in turn, so that both meet the same noise."""
        found = []
        for _ in range(rounds):
            floor = self.run(self.floor, ifindex, packets).duration_ns
            found.append(Timing(self.run(program, ifindex, packets).duration_ns, floor))
        return found
