# SPDX-License-Identifier: Apache-2.0
import os
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
import trio

from galelb.bpf import syscalls
from galelb.bpf.ringbuf import RingBuffer, events
from galelb.bpf.testrun import run_xdp
from galelb.errors import MapError
from galelb.testing.kernel import Sandbox

pytestmark = pytest.mark.bpf

SOURCE = """
struct event { u32 number; u8 mac[6]; u16 pad; };
GALE_MAP("ringbuf", u32, struct event, events, 4096, 0)
GALE_MAP("array", u32, u32, numbers, 1, 0)
static __always_inline int tell(int discard)
{
	u32 zero = 0, *number = numbers.lookup(&zero);
	struct event *event = events.ringbuf_reserve(sizeof(*event));

	if (!event)
		return 1;
	__builtin_memset(event, 0, sizeof(*event));
	if (number)
		event->number = (*number)++;
	event->mac[5] = 9;
	if (discard)
		events.ringbuf_discard(event, 0);
	else
		events.ringbuf_submit(event, 0);
	return 0;
}
int gale_tell(struct xdp_md *ctx) { return tell(0); }
int gale_discard(struct xdp_md *ctx) { return tell(1); }
"""


class Teller:
    """A ring buffer and the programs that write to it."""

    def __init__(self, sandbox: Sandbox) -> None:
        names = ("gale_tell", "gale_discard")
        compiled = sandbox.compile(SOURCE, dict.fromkeys(names, "xdp"))
        self.fds = {n: syscalls.obj_get(compiled.programs[n].pin) for n in names}
        self.layout = compiled.maps["events"]
        self.other = compiled.maps["numbers"]
        self.ring = RingBuffer(self.layout)

    def tell(self, count: int = 1, *, discard: bool = False) -> int:
        fd = self.fds["gale_discard" if discard else "gale_tell"]
        return run_xdp(fd, bytes(64), repeat=count).verdict

    def close(self) -> None:
        self.ring.close()
        for fd in self.fds.values():
            os.close(fd)


@pytest.fixture
def teller(sandbox: Sandbox) -> Iterator[Teller]:
    one = Teller(sandbox)
    yield one
    one.close()


def numbers(ring: RingBuffer, limit: int = 1000) -> list[int]:
    return [ring.decode(record)["number"] for record in ring.drain(limit)]


def test_records_come_in_order_and_once(teller: Teller) -> None:
    teller.tell(3)

    records = [teller.ring.decode(record) for record in teller.ring.drain()]

    assert [{"number": n, "mac": b"\0\0\0\0\0\x09", "pad": 0} for n in range(3)] == records
    assert [] == teller.ring.drain()


def test_discarded_records_are_passed_over(teller: Teller) -> None:
    teller.tell()
    teller.tell(2, discard=True)
    teller.tell()

    assert [0, 3] == numbers(teller.ring)


def test_draining_is_limited(teller: Teller) -> None:
    teller.tell(5)

    assert [0, 1] == numbers(teller.ring, 2)
    assert [2, 3, 4] == numbers(teller.ring)


def test_records_survive_many_rounds_of_the_ring(teller: Teller) -> None:
    seen: list[int] = []
    for _ in range(20):
        teller.tell(100)
        seen += numbers(teller.ring)

    assert list(range(2000)) == seen


def test_a_full_ring_refuses_and_goes_on_when_read(teller: Teller) -> None:
    teller.tell(1000)
    refused = teller.tell()
    kept = len(numbers(teller.ring))
    accepted = teller.tell()

    assert (1, 0) == (refused, accepted)
    assert 4096 // 24 == kept


def test_unread_records_are_there_for_the_next_reader(teller: Teller) -> None:
    teller.tell(3)
    numbers(teller.ring, 1)
    teller.ring.close()

    teller.ring = RingBuffer(teller.layout)

    assert [1, 2] == numbers(teller.ring)


async def test_events_wait_for_records(teller: Teller) -> None:
    seen: list[Any] = []

    async def read() -> None:
        async for event in events(teller.ring):
            seen.append(event["number"])
            if len(seen) == 2:
                return

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            before = list(seen)
            teller.tell(2)

    assert ([], [0, 1]) == (before, seen)


async def test_waiting_can_be_cancelled(teller: Teller) -> None:
    async with trio.open_nursery() as nursery:

        async def read() -> None:
            async for _ in events(teller.ring):
                raise AssertionError("nothing was told")

        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    assert [] == teller.ring.drain()


def test_only_ring_buffers_are_read(teller: Teller) -> None:
    with pytest.raises(MapError, match="map numbers: open: it is no ring buffer"):
        RingBuffer(teller.other)
    gone = attrs.evolve(teller.layout, pin=teller.layout.pin.with_name("gone"))
    with pytest.raises(MapError, match="map events: open: No such file"):
        RingBuffer(gone)


def test_a_record_that_is_too_short_is_refused(teller: Teller) -> None:
    with pytest.raises(MapError, match="a record of 3 bytes is too short"):
        teller.ring.decode(b"abc")
