# SPDX-License-Identifier: Apache-2.0
"""A capture ends when it shall, keeps programs going while it lasts, tells what it lost."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from galelb.abi import CaptureFlag
from galelb.api.view import CaptureWish
from galelb.capture import recorder as module
from galelb.capture.pcapng import Frame, Reader, Statistics
from galelb.capture.recorder import LEASE_NS, Capture, Recorder
from galelb.control.identity import Numbering
from galelb.errors import AttachError, CompileError, GaleError
from galelb.model import Protocol, Service

NODE = ip_address("10.0.0.11")
SERVICE = Service(
    name="web",
    vip=ip_address("198.51.100.1"),
    port=80,
    protocol=Protocol.TCP,
    target_port=80,
    forwarder="fake",
)
RECORD = {
    "time": 1,
    "verdict": 1,
    "tc": 0,
    "reason": 8,
    "service": 7,
    "node": 0,
    "in": 1,
    "out": 0,
    "in_len": 14,
    "out_len": 0,
    "in_kept": 14,
    "out_kept": 0,
    "in_tag": 0,
    "out_tag": 0,
    "egress": 0,
}


class FakeRing:
    """A ring buffer of frames; its fd is readable while there are some."""

    record_bytes = 0

    def __init__(self, stack: ExitStack) -> None:
        self.records: list[bytes] = []
        self._ends = os.pipe()
        for end in self._ends:
            stack.callback(os.close, end)

    def put(self, count: int) -> None:
        if not self.records:
            os.write(self._ends[1], b"x")
        self.records += [bytes(14)] * count

    def drain(self, limit: int = 256) -> list[bytes]:
        taken, self.records = self.records[:limit], self.records[limit:]
        if taken and not self.records:
            os.read(self._ends[0], 1)
        return taken

    def fileno(self) -> int:
        return self._ends[0]

    def decode(self, record: bytes) -> dict[str, int]:
        return RECORD

    def close(self) -> None:
        pass


class FakeMaps:
    """The maps of bpf/capture.h, and a deployment that has them."""

    def __init__(self, ring: FakeRing) -> None:
        self.ring = ring
        self.wishes: list[dict[str, Any]] = []
        self.lost = {"full": 0, "limited": 0}
        self.log: list[str] = []
        self.capturing = False
        self.start_error: GaleError | None = None
        self.stop_error: GaleError | None = None
        self.attacher = SimpleNamespace(statuses=lambda: [SimpleNamespace(ifindex=1, mode="x")])

    def open(self, name: str) -> Any:
        if name == "gale_capture":
            return self.ring
        if name == "gale_capture_wish":
            return SimpleNamespace(set=self._wish, close=lambda: None)
        return SimpleNamespace(get=lambda key: [self.lost, {"full": 0, "limited": 0}], close=int)

    def _wish(self, key: int, leaf: dict[str, Any]) -> None:
        assert key == 0
        self.wishes.append(leaf)

    async def start_capturing(self) -> dict[str, str]:
        self.log.append("start")
        await trio.lowlevel.checkpoint()
        if self.start_error:
            raise self.start_error
        self.capturing = True
        return {n: n for n in ("gale_capture", "gale_capture_wish", "gale_capture_lost")}

    async def stop_capturing(self) -> None:
        self.log.append("stop")
        await trio.lowlevel.checkpoint()
        self.capturing = False
        if self.stop_error:
            raise self.stop_error


@pytest.fixture
def maps(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeMaps]:
    with ExitStack() as stack:
        made = FakeMaps(FakeRing(stack))
        monkeypatch.setattr(module, "RingBuffer", made.open)
        monkeypatch.setattr(module, "PinnedMap", made.open)
        yield made


@pytest.fixture
def recorder(maps: FakeMaps) -> Recorder:
    controller: Any = SimpleNamespace(
        served=SimpleNamespace(services={7: SERVICE}),
        nodes=Numbering("node", 9, {str(NODE): 3}),
    )
    deployment: Any = maps
    return Recorder(deployment, controller, trio.Lock())


class Taker:
    """Reads a capture as a client does."""

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self._reader = Reader()

    async def take(self) -> list[Frame | Statistics] | None:
        """Return what the next part says; None at the end."""
        part = await self._capture.read()
        return None if part is None else list(self._reader.feed(part))


async def test_it_begins_at_once_with_the_interfaces(recorder: Recorder) -> None:
    async with recorder.open(CaptureWish()) as capture:
        reader = Reader()

        part = await capture.read()

    assert part is not None
    assert [] == list(reader.feed(part))
    assert ["lo"] == [one.name for one in reader.interfaces]  # index 1 in every namespace


async def test_it_is_over_after_so_many_packets(maps: FakeMaps, recorder: Recorder) -> None:
    async with recorder.open(CaptureWish(count=3)) as capture:
        taker = Taker(capture)
        await taker.take()
        maps.ring.put(5)

        frames, end, nothing = [await taker.take() for _ in range(3)]

    assert frames is not None
    assert end is not None
    assert (3, None) == (len(frames), nothing)
    assert [(3, 0)] == [(one.captured, one.lost) for one in end if isinstance(one, Statistics)]


async def test_it_is_over_after_so_long(
    recorder: Recorder, autojump_clock: trio.testing.MockClock
) -> None:
    async with recorder.open(CaptureWish(seconds=4)) as capture:
        taker, start = Taker(capture), trio.current_time()
        await taker.take()

        end, nothing = await taker.take(), await taker.take()

    assert end is not None
    assert isinstance(end[0], Statistics)
    assert nothing is None
    assert 4 == trio.current_time() - start


async def test_a_client_hears_something_now_and_then(
    recorder: Recorder, autojump_clock: trio.testing.MockClock
) -> None:
    async with recorder.open(CaptureWish()) as capture:
        taker, start = Taker(capture), trio.current_time()
        await taker.take()

        heard = [await taker.take(), await taker.take()]

    assert all(one and isinstance(one[0], Statistics) for one in heard)
    assert 2 * module.STATISTICS_S == trio.current_time() - start


async def test_what_is_lost_is_told_soon(
    maps: FakeMaps, recorder: Recorder, autojump_clock: trio.testing.MockClock
) -> None:
    maps.lost["full"] = 1000  # by an earlier one
    async with recorder.open(CaptureWish()) as capture:
        taker, start = Taker(capture), trio.current_time()
        await taker.take()
        maps.lost["full"] += 2
        maps.lost["limited"] += 3

        told = await taker.take()

    assert told is not None
    assert [5] == [one.lost for one in told if isinstance(one, Statistics)]
    assert trio.current_time() - start <= 2 * module.TICK_S


async def test_programs_go_on_only_as_long_as_somebody_reads(
    maps: FakeMaps, recorder: Recorder, autojump_clock: trio.testing.MockClock
) -> None:
    async with recorder.open(CaptureWish()) as capture:
        taker = Taker(capture)
        await taker.take()
        renewed = len(maps.wishes)
        await taker.take()

    assert {} == maps.wishes[0]  # nothing is wanted before the ring is empty
    assert len(maps.wishes) > renewed
    ahead = maps.wishes[-1]["until"] - time.monotonic_ns()
    assert 0 < ahead <= LEASE_NS


async def test_records_of_an_earlier_capture_are_not_shown(
    maps: FakeMaps, recorder: Recorder
) -> None:
    maps.ring.put(600)
    async with recorder.open(CaptureWish(count=1)):
        assert [] == maps.ring.records


@pytest.mark.parametrize(
    ("wish", "leaf"),
    [
        (CaptureWish(), {"service": 0, "snap": 256, "flags": 0}),
        (CaptureWish(service="web"), {"service": 7}),
        (CaptureWish(everything=True), {"flags": int(CaptureFlag.FOREIGN)}),
        (CaptureWish(dropped=True, snaplen=64), {"flags": int(CaptureFlag.DROPPED), "snap": 64}),
        (CaptureWish(node=NODE), {"node": 3, "family": 4}),
    ],
)
async def test_programs_are_told_what_is_wanted(
    maps: FakeMaps, recorder: Recorder, wish: CaptureWish, leaf: dict[str, int]
) -> None:
    async with recorder.open(wish) as capture:
        await capture.read()

    assert leaf.items() <= maps.wishes[-1].items()


async def test_only_one_at_a_time_and_another_one_after_it(
    maps: FakeMaps, recorder: Recorder
) -> None:
    async with recorder.open(CaptureWish()):
        with pytest.raises(GaleError, match="a capture already"):
            async with recorder.open(CaptureWish()):
                pass
    async with recorder.open(CaptureWish()):
        pass

    assert ["start", "stop"] * 2 == maps.log


async def test_a_client_that_leaves_while_programs_are_loaded_leaves_nothing(
    maps: FakeMaps, recorder: Recorder
) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        async with recorder.open(CaptureWish()) as capture:
            await capture.read()
            await trio.lowlevel.checkpoint()

    assert scope.cancelled_caught
    assert (["start", "stop"], False) == (maps.log, maps.capturing)


async def test_programs_that_do_not_load_are_an_error_and_not_the_end(
    maps: FakeMaps, recorder: Recorder
) -> None:
    maps.start_error = CompileError("no")
    with pytest.raises(CompileError):
        async with recorder.open(CaptureWish()):
            pass
    maps.start_error = None

    async with recorder.open(CaptureWish()) as capture:
        assert await capture.read()


async def test_a_capture_that_cannot_be_taken_off_is_logged(
    maps: FakeMaps, recorder: Recorder
) -> None:
    maps.stop_error = AttachError("eth0", "native", "no")

    async with recorder.open(CaptureWish()) as capture:
        assert await capture.read()

    assert ["start", "stop"] == maps.log


async def test_it_ends_when_a_reload_could_not_keep_it(
    maps: FakeMaps, recorder: Recorder, autojump_clock: trio.testing.MockClock
) -> None:
    async with recorder.open(CaptureWish()) as capture:
        await capture.read()
        maps.capturing = False

        with pytest.raises(GaleError, match="the capture ended"):
            await capture.read()
