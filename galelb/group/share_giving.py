# SPDX-License-Identifier: Apache-2.0
"""The giving side of connection sharing: sends this balancer's flows to peers that ask."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping

import attrs
import structlog
import trio

from galelb.errors import GaleError, LocalProtocolError, RemoteProtocolError
from galelb.flowshare import MAX_BATCH, FlowShare
from galelb.group.share_messages import (
    STILL_THERE,
    Ack,
    Batch,
    Beat,
    Hello,
    Message,
    check_first,
    decode,
    encode,
)
from galelb.group.share_outbox import Outbox
from galelb.group.streams import SealedStream
from galelb.plugins.blame import blamed

__all__ = ["CHANGES_S", "SILENT_S", "Giving"]

log = structlog.get_logger("galelb.sharing")

CHANGES_S = 0.2
"""Between two looks at what changed."""
NEWS_S = 0.02
"""Between two looks at which flows were made: those that are younger die with their machine."""
SILENT_S = 10.0
"""A peer that acknowledges nothing for so long is dropped."""
_SIGN_S = 1.0
"""Between signs of life while there is nothing to send."""


@attrs.define(eq=False)
class _Line:
    """A peer that is served."""

    stream: SealedStream
    outbox: Outbox
    scope: trio.CancelScope
    work: trio.Event = attrs.field(factory=trio.Event)
    """Set when there may be something to send."""


class Giving:
    """A component that looks for changes; `serve` is run for each peer that has dialled."""

    def __init__(self, shares: Callable[[], Mapping[str, FlowShare]]) -> None:
        self._shares = shares
        self._known: dict[str, FlowShare] = {}
        self._lines: dict[str, _Line] = {}
        self._beat = STILL_THERE
        self._failing: set[tuple[str, str]] = set()
        """Forwarders and what they failed in the last time."""
        self.sent: Counter[str] = Counter()
        """Batches and bytes."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look for changes until cancelled, as long as there is a peer to tell."""
        task_status.started()
        while True:
            begun = trio.current_time()
            if self._lines:
                await self._look(begun)
            while (now := trio.current_time()) < begun + CHANGES_S:
                await trio.sleep_until(min(now + NEWS_S, begun + CHANGES_S))
                if self._lines:
                    await self._glance()

    def lags(self, now: float) -> dict[str, float]:
        """Return by how many seconds each peer's copy of our flows is behind."""
        return {peer: line.outbox.lag(now) for peer, line in self._lines.items()}

    def end_all(self) -> None:
        """End all streams; peers that are of the group dial again."""
        for line in self._lines.values():
            line.scope.cancel()

    def overflows(self) -> int:
        """Return how often peers that are there now were too slow."""
        return sum(line.outbox.overflows for line in self._lines.values())

    async def serve(self, stream: SealedStream) -> None:
        """Send a peer everything, then what changes, until the stream ends.

        A peer that dials again has lost the other stream: that one ends.
        Raises RemoteProtocolError, Unreadable, trio.BrokenResourceError, trio.TooSlowError.
        """
        peer = stream.peer
        if peer in self._lines:
            self._lines[peer].scope.cancel()
        with trio.CancelScope() as scope:
            line = self._lines[peer] = _Line(stream, Outbox(trio.current_time()), scope)
            try:
                await self._talk(line)
            finally:
                if self._lines.get(peer) is line:
                    del self._lines[peer]

    async def _talk(self, line: _Line) -> None:
        await line.stream.send(encode(Hello()))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send, line)
            await self._hear(line)
            nursery.cancel_scope.cancel()

    async def _hear(self, line: _Line) -> None:
        message = await self._next(line)
        check_first(message)
        while (message := await self._next(line)) is not None:
            if not isinstance(message, Ack):
                raise RemoteProtocolError("connection sharing: this comes out of turn")
            line.outbox.acknowledged(message.number)

    async def _next(self, line: _Line) -> Message | None:
        with trio.fail_after(SILENT_S):
            data = await line.stream.receive()
        return None if data is None else decode(data)

    async def _send(self, line: _Line) -> None:
        outbox = line.outbox
        # The first look for a long time finds all flows changed, which would be sent twice.
        with trio.move_on_after(_SIGN_S):
            await line.work.wait()
        while True:
            if outbox.behind and trio.current_time() >= outbox.not_before:
                await self._send_everything(line)
            while (message := outbox.take(trio.current_time())) is not None:
                await self._put(line, message)
            await self._wait(line)

    async def _wait(self, line: _Line) -> None:
        """Return when there may be something to send; say meanwhile that one is there."""
        wake = trio.current_time() + _SIGN_S
        if line.outbox.behind:
            wake = min(wake, line.outbox.not_before)
        line.work = trio.Event()
        with trio.move_on_at(wake) as idle:
            await line.work.wait()
        if idle.cancelled_caught:
            await self._put(line, Beat(STILL_THERE))

    async def _send_everything(self, line: _Line) -> None:
        line.outbox.begin(trio.current_time())
        for name, share in dict(self._shares()).items():
            try:
                await self._send_all_of(line, name, share)
            except GaleError as error:
                self._failed(name, "everything", error)
                line.outbox.postpone(trio.current_time())
            if line.outbox.behind:
                return  # it became another data path, or too much changed meanwhile
        await self._put(line, line.outbox.whole(trio.current_time()))

    async def _send_all_of(self, line: _Line, name: str, share: FlowShare) -> None:
        with blamed(name, "everything"):
            batches: Iterator[bytes] = iter(await trio.to_thread.run_sync(share.everything))
        while not line.outbox.behind:
            with blamed(name, "everything"):
                batch = await trio.to_thread.run_sync(next, batches, None)
            if batch is None:
                self._failing.discard((name, "everything"))
                return
            await self._put(line, Batch(name, _fitting(batch)))
            await self._put(line, Beat(STILL_THERE))

    async def _put(self, line: _Line, message: Message) -> None:
        data = encode(message)
        await line.stream.send(data)
        self.sent["bytes"] += len(data)
        self.sent["batches"] += isinstance(message, Batch)

    async def _look(self, now: float) -> None:
        """Read what has changed by now, and hand it to all peers."""
        shares = dict(self._shares())
        self._see_other_shares(shares)
        found: list[tuple[str, bytes]] = []
        for name, share in shares.items():
            batches = await self._read(name, "changes", share.changes)
            if batches is None:
                return
            found += batches
        self._beat += 1
        self._hand_out(found, self._beat, now)

    async def _glance(self) -> None:
        """Hand flows that were made just now to all peers."""
        for name, share in dict(self._shares()).items():
            if self._known.get(name) is not share or not self._stirred(name, share):
                continue
            if batches := await self._read(name, "news", share.news):
                self._hand_out(batches, None, trio.current_time())

    def _stirred(self, name: str, share: FlowShare) -> bool:
        try:
            with blamed(name, "stirred"):
                return share.stirred
        except GaleError as error:
            self._failed(name, "stirred", error)
            return False

    async def _read(
        self, name: str, what: str, read: Callable[[], list[bytes]]
    ) -> list[tuple[str, bytes]] | None:
        """Return what is new, by forwarder; None when that failed, and all has to be sent again."""
        try:
            with blamed(name, what):
                batches = await trio.to_thread.run_sync(read)
            found = [(name, _fitting(batch)) for batch in batches]
        except GaleError as error:
            self._failed(name, what, error)
            for line in self._lines.values():
                line.outbox.postpone(trio.current_time())  # what was found is lost
            return None
        self._failing.discard((name, what))
        return found

    def _see_other_shares(self, shares: dict[str, FlowShare]) -> None:
        known, self._known = self._known, shares
        if known.keys() == shares.keys() and all(known[key] is shares[key] for key in shares):
            return
        for line in self._lines.values():
            line.outbox.restart()

    def _hand_out(self, found: Collection[tuple[str, bytes]], beat: int | None, now: float) -> None:
        for peer, line in self._lines.items():
            if not line.outbox.put(found, beat, now):
                log.warning("peer_takes_flows_too_slowly", peer=peer)
            line.work.set()

    def _failed(self, name: str, doing: str, error: GaleError) -> None:
        if (name, doing) not in self._failing:
            log.error("flows_not_read", forwarder=name, doing=doing, reason=str(error))
        self._failing.add((name, doing))


def _fitting(batch: bytes) -> bytes:
    if len(batch) > MAX_BATCH:
        raise LocalProtocolError(f"a batch of {len(batch)} bytes, at most {MAX_BATCH}")
    return batch
