# SPDX-License-Identifier: Apache-2.0
"""Whole lives of many flows at the full speed of several CPUs, every packet checked.

lives.bpf.c runs around the entry program of a stateful forwarder. It says of each packet of a
client whether it was forwarded the way that its flow's first one was, and of each answer whether
it reached the client that it is for. Nothing but a thread's share of a system call is Python.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.resources import files
from ipaddress import ip_address
from types import TracebackType
from typing import Self

import attrs

from galelb.bpf import syscalls
from galelb.bpf.maps import close_maps, open_maps
from galelb.bpf.testrun import run_xdp
from galelb.model import IPAddress, Protocol, Service
from galelb.testing.packets import frame
from galelb.testing.ready import ready
from galelb.testing.runner import PacketRunner
from galelb.testing.world import PRIVATE

__all__ = ["CLOSE", "LANES", "OPEN", "USE", "Lives", "Record", "client_of"]

LANES = 4
"""How many threads may be at it at a time; each has a lane of its own."""
FIN, SYN, ACK, ANSWER = 0x01, 0x02, 0x10, 0x80
OPEN = (SYN, ANSWER | SYN | ACK, ACK)
"""Steps of a script are TCP flags, with ANSWER of a packet of the node: here a handshake."""
USE = (ACK, ANSWER | ACK)
"""A packet each way; at the beginning of a script it needs a flow, or makes one (adopts it)."""
CLOSE = (FIN | ACK, ANSWER | FIN | ACK, ACK)
"""After this the flow is closed from both sides."""

_LANES = tuple(f"lives_{lane}" for lane in range(LANES))
_STEPS = 8
_PASS = 2
_SEED = 0x9E3779B97F4A7C15
_PORT_BITS = 14
_FIRST_CLIENT = {4: ip_address("100.64.0.0"), 6: ip_address("2001:db8:9::6440:0")}
_SADDR = {4: 26, 6: 34}
_DADDR = {4: 30, 6: 50}
_PORTS = {4: 34, 6: 54}


@attrs.frozen(kw_only=True)
class Record:
    """What became of lives.

    `missed`: by step of the script, packets that were not forwarded; the life ended there.
    `crossed`: answers that reached somebody else; `moved`: packets of a client that left another
    way than its first one; `ended`: lives that came to the end. `run_ns`: mean of all `runs`,
    without waiting for a CPU; `began_ns`, `over_ns`: when all that was, by the monotonic clock.
    """

    missed: tuple[int, ...]
    crossed: int
    moved: int
    ended: int
    runs: int
    run_ns: int
    began_ns: int
    over_ns: int


def client_of(version: int, flow: int) -> tuple[IPAddress, int]:
    """Return the address and port of a flow's client."""
    return _FIRST_CLIENT[version] + (flow >> _PORT_BITS), 1024 + flow % (1 << _PORT_BITS)


class Lives:
    """Flows of a TCP service of a runner; a context manager. One at a time per sandbox.

    `source`: any address that nodes are sent packets from; None = their clients' own. Nodes, and
    such addresses, must differ in their last 32 bits only. All come by the private interface.
    """

    def __init__(self, runner: PacketRunner, service: Service, source: IPAddress | None) -> None:
        assert service.protocol is Protocol.TCP, "lives are those of TCP flows"
        self.version = service.vip.version
        self._runner = runner
        first, _ = client_of(self.version, 0)
        node = next(n for n in runner.world.nodes if n.address.version == self.version)
        frames = (
            frame(str(first), str(service.vip), 1024, service.port),
            frame(str(node.address), str(source or first), service.target_port, 1024),
        )
        self._length = len(frames[0])
        names = [*_LANES, "lives_floor"]
        text = files("galelb.testing").joinpath("lives.bpf.c").read_text()
        defines = self._defines(service, first)
        compiled = runner.sandbox.compile(text, dict.fromkeys(names, "xdp"), defines)
        self._stack = ExitStack()
        self._maps = open_maps(compiled.maps)
        self._stack.callback(close_maps, self._maps)
        self._fds = {name: syscalls.obj_get(compiled.programs[name].pin) for name in names}
        for fd in self._fds.values():
            self._stack.callback(os.close, fd)
        self._maps["lives_frames"].update((n, {"data": data}) for n, data in enumerate(frames))
        self.aim(runner.entry_fd)

    def _defines(self, service: Service, first: IPAddress) -> dict[str, int | str]:
        return {
            "LIVES_LEN": self._length,
            "LIVES_AT_SADDR": _SADDR[self.version],
            "LIVES_AT_DADDR": _DADDR[self.version],
            "LIVES_AT_PORTS": _PORTS[self.version],
            "LIVES_CLIENTS": int.from_bytes(first.packed[-4:], "big"),
            "LIVES_PORT_BITS": _PORT_BITS,
            "LIVES_VIP": int.from_bytes(service.vip.packed[-4:], "little"),
            "LIVES_PORT": service.port,
        }

    def __enter__(self) -> Self:
        programs = [self._fds[name] for name in _LANES]
        self._stack.enter_context(ready(self._runner.sandbox, programs))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def aim(self, program: int | None) -> None:
        """Run packets through this program (its fd); None = through one that forwards nothing."""
        self._maps["lives_next"].set(0, self._fds["lives_floor"] if program is None else program)

    def live(
        self,
        script: Sequence[int],
        lives: int,
        *,
        first: int,
        count: int,
        lane: int = 0,
        at_random: bool = False,
        seed: int = 0,
    ) -> Record:
        """Lead so many lives of flows `first` .. `first + count - 1`, in turn or at random:
        the same `seed` and `first` draw the same ones.

        In the calling thread, which must be in the sandbox's namespace; blocks. At most eight
        steps, and a packet of the client first.
        """
        assert len(script) <= _STEPS, f"a script has at most {_STEPS} steps"
        assert not script[0] & ANSWER, "a client speaks first"
        random = (_SEED * (seed + 1) + first) % (1 << 64) if at_random else 0
        self._maps["lives_lanes"].set(lane, _lane(script, lives, first, count, random))
        ifindex = self._runner.world.interface(PRIVATE).ifindex
        runs = lives * len(script) + 1  # the last one only judges
        result = run_xdp(
            self._fds[_LANES[lane]],
            bytes(self._length),
            ingress_ifindex=ifindex,
            repeat=runs,
        )
        left = self._maps["lives_lanes"].get(lane) or {}
        assert (result.verdict, left["left"]) == (_PASS, 0), "frames changed their length"
        return Record(
            missed=tuple(left["missed"][: len(script)]),
            crossed=left["crossed"],
            moved=left["moved"],
            ended=left["ended"],
            runs=runs,
            run_ns=result.duration_ns,
            began_ns=left["began_ns"],
            over_ns=left["over_ns"],
        )


def _lane(
    script: Sequence[int], lives: int, first: int, count: int, random: int
) -> dict[str, object]:
    """Return a `struct lives_lane` that begins."""
    counters = (
        "turn",
        "step",
        "flow",
        "node",
        "source",
        "port",
        "pad",
        "crossed",
        "moved",
        "ended",
        "began_ns",
        "over_ns",
    )
    return {
        **dict.fromkeys(counters, 0),
        "left": lives,
        "random": random,
        "first": first,
        "count": count,
        "steps": len(script),
        "script": bytes(script).ljust(_STEPS, b"\0"),
        "missed": [0] * _STEPS,
        "spare": [0] * 3,
    }
