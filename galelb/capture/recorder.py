# SPDX-License-Identifier: Apache-2.0
"""Captures live traffic: switches to programs that copy packets, and back when nobody looks."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import socket
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import structlog
import trio

from galelb.abi import CaptureFlag
from galelb.bpf.maps import PinnedMap
from galelb.bpf.ringbuf import RingBuffer
from galelb.capture.records import Encoder, Names
from galelb.errors import GaleError
from galelb.packing import address_words

if TYPE_CHECKING:
    from galelb.api.view import CaptureWish
    from galelb.bpf.layout import MapLayout
    from galelb.control.controller import Controller
    from galelb.datapath.deployment import Deployment

__all__ = ["Capture", "Recorder"]

log = structlog.get_logger("galelb.capture")

RATE = 10_000
"""Packets per second that are captured at most, all CPUs together; more are lost."""
TICK_S = 1.0
LEASE_NS = 5 * 10**9
"""So long programs go on copying packets when the control plane has died."""
STATISTICS_S = 10.0
"""A client hears something at least so often, or it is the network that is silent."""
_BATCH = 64
_BATCH_BYTES = 1 << 18


class Recorder:
    """Runs one capture at a time on the programs of a deployment.

    `switching` is held by whoever attaches other programs.
    """

    def __init__(
        self, deployment: Deployment, controller: Controller, switching: trio.Lock
    ) -> None:
        self._deployment = deployment
        self._controller = controller
        self._switching = switching
        self._busy = False

    @contextlib.asynccontextmanager
    async def open(self, wish: CaptureWish) -> AsyncIterator[Capture]:
        """Capture while the context lasts; the plain programs are attached again at its end.

        Raises GaleError when there is a capture already, or when the programs do not load.
        """
        if self._busy:
            raise GaleError(
                "there is a capture already, and a balancer makes one at a time: end that one first"
            )
        self._busy = True
        try:
            layouts = await self._start()
            try:
                with _opened(layouts) as (ring, wishes, lost):
                    wishes.set(0, {})  # what an earlier run left in the ring is not wanted
                    while ring.drain():
                        await trio.lowlevel.checkpoint()
                    capture = Capture(ring, wishes, lost, self._leaf(wish), wish, self)
                    log.info("capture_started", service=wish.service, node=str(wish.node or ""))
                    try:
                        yield capture
                    finally:
                        log.info("capture_ended", captured=capture.encoder.captured)
            finally:
                await self._stop()
        finally:
            self._busy = False

    @property
    def capturing(self) -> bool:
        """Whether programs that capture are attached."""
        return self._deployment.capturing

    def encoder(self, snaplen: int) -> Encoder:
        """Return what makes pcapng of records, with the names of this balancer's things."""
        names = Names(interface=_interface_name, service=self._service, node=self._node)
        return Encoder(names, snaplen, time.time_ns() - time.monotonic_ns())

    def beginning(self, encoder: Encoder) -> bytes:
        """Return what a file begins with; it names the attached interfaces."""
        indices = (one.ifindex for one in self._deployment.attacher.statuses() if one.mode)
        application = f"galelb {importlib.metadata.version('galelb')}"
        return encoder.begin(application, [i for i in indices if i is not None])

    async def _start(self) -> Mapping[str, MapLayout]:
        # Not given up halfway: interfaces would run what nobody knows of.
        with trio.CancelScope(shield=True):
            async with self._switching:
                layouts = await self._deployment.start_capturing()
        return layouts

    async def _stop(self) -> None:
        with trio.CancelScope(shield=True):
            async with self._switching:
                try:
                    await self._deployment.stop_capturing()
                except GaleError as error:
                    # They forward as the plain ones do, and copy nothing without a wish.
                    log.error("capture_not_ended", reason=str(error))  # noqa: TRY400

    def _leaf(self, wish: CaptureWish) -> dict[str, Any]:
        """Return `struct gale_capture_wish`, but for its end."""
        served = self._controller.served.services
        numbers = [n for n, service in served.items() if service.name == wish.service]
        flags = CaptureFlag.FOREIGN if wish.everything else CaptureFlag(0)
        flags |= CaptureFlag.DROPPED if wish.dropped else CaptureFlag(0)
        leaf: dict[str, Any] = {
            "service": numbers[0] if numbers else 0,
            "snap": wish.snaplen,
            "rate": max(1, RATE // len(os.sched_getaffinity(0))),
            "flags": int(flags),
        }
        if wish.node is not None:
            leaf["node"] = self._controller.nodes.number(str(wish.node))
            leaf["addr"] = address_words(wish.node)
            leaf["family"] = wish.node.version
        return leaf

    def _service(self, number: int) -> str:
        service = self._controller.served.services.get(number)
        return service.name if service else ""

    def _node(self, index: int) -> str:
        known = self._controller.nodes.known().items()
        return next((address for address, number in known if number == index), "")


class Capture:
    """A capture that runs; `read` until it returns None."""

    def __init__(
        self,
        ring: RingBuffer,
        wishes: PinnedMap,
        lost: PinnedMap,
        leaf: dict[str, Any],
        wish: CaptureWish,
        recorder: Recorder,
    ) -> None:
        self.encoder = recorder.encoder(wish.snaplen)
        self._ring = ring
        self._wishes = wishes
        self._lost_map = lost
        self._leaf = leaf
        self._recorder = recorder
        self._left = wish.count
        self._end = trio.current_time() + wish.seconds
        self._lost_before = self._read_lost()
        self._lost = self._said_lost = 0
        self._said_at, self._renewed_at = trio.current_time(), float("-inf")
        self._begun = self._over = False
        self._batch = max(1, min(_BATCH, _BATCH_BYTES // (2 * wish.snaplen)))

    async def read(self) -> bytes | None:
        """Return the next part of a pcapng file; None when the capture is over.

        It is over after `count` packets or `seconds`, with counts as the last part. Raises
        GaleError when the programs could not be kept.
        """
        if self._over:
            return None
        self._renew()
        if not self._begun:
            self._begun = True
            return self._recorder.beginning(self.encoder)
        while not self._is_over():
            self._renew()
            if self._has_news():
                return self._statistics()
            if records := self._ring.drain(self._most()):
                await trio.lowlevel.checkpoint()
                return self._encode(records)
            wait_s = min(TICK_S, self._end - trio.current_time())
            with trio.move_on_after(wait_s):
                await trio.lowlevel.wait_readable(self._ring.fileno())
        self._over = True
        return self._statistics()

    def _most(self) -> int:
        return self._batch if self._left is None else min(self._batch, self._left)

    def _is_over(self) -> bool:
        return self._left == 0 or trio.current_time() >= self._end

    def _renew(self) -> None:
        """Let programs go on for a while."""
        now = trio.current_time()
        if now - self._renewed_at < TICK_S:
            return
        if not self._recorder.capturing:
            raise GaleError("the capture ended: see the balancer's log")
        self._renewed_at = now
        self.encoder.look_again()
        self._lost = self._read_lost() - self._lost_before
        self._wishes.set(0, self._leaf | {"until": time.monotonic_ns() + LEASE_NS})

    def _encode(self, records: Iterable[bytes]) -> bytes:
        parts = []
        for data in records:
            record = self._ring.decode(data)
            parts.append(self.encoder.packet(record, data[self._ring.record_bytes :]))
        if self._left is not None:
            self._left -= len(parts)
        return b"".join(parts)

    def _has_news(self) -> bool:
        silent_s = trio.current_time() - self._said_at
        return silent_s >= (TICK_S if self._lost != self._said_lost else STATISTICS_S)

    def _statistics(self) -> bytes:
        self._said_at = trio.current_time()
        self._lost = self._said_lost = self._read_lost() - self._lost_before
        return self.encoder.statistics(time.monotonic_ns(), self._lost)

    def _read_lost(self) -> int:
        return sum(one["full"] + one["limited"] for one in self._lost_map.get(0) or ())


@contextlib.contextmanager
def _opened(
    layouts: Mapping[str, MapLayout],
) -> Iterator[tuple[RingBuffer, PinnedMap, PinnedMap]]:
    with (
        contextlib.closing(RingBuffer(layouts["gale_capture"])) as ring,
        contextlib.closing(PinnedMap(layouts["gale_capture_wish"])) as wishes,
        contextlib.closing(PinnedMap(layouts["gale_capture_lost"])) as lost,
    ):
        yield ring, wishes, lost


def _interface_name(ifindex: int) -> str:
    try:
        return socket.if_indextoname(ifindex)
    except OSError:
        return ""
