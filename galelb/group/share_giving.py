# SPDX-License-Identifier: Apache-2.0
"""The giving side of connection sharing: sends this balancer's flows to peers that ask."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import structlog
import trio

from galelb.errors import GaleError, RemoteProtocolError
from galelb.flowshare import FlowShare
from galelb.group.share_messages import (
    STILL_THERE,
    Ack,
    Batch,
    Beat,
    Hello,
    Message,
    Whole,
    decode,
    encode,
)
from galelb.group.share_outbox import Outbox
from galelb.group.streams import SealedStream

__all__ = ["CHANGES_S", "Giving"]

log = structlog.get_logger("galelb.sharing")

CHANGES_S = 0.2
"""Between two looks at what changed: flows younger than that die with their balancer."""
_SILENT_S = 10.0
"""A peer that acknowledges nothing for so long while things are sent is dropped."""


class Giving:
    """A component that looks for changes; `serve` is run for each peer that has dialled."""

    def __init__(self, shares: Callable[[], Mapping[str, FlowShare]]) -> None:
        self._shares = shares
        self._known: dict[str, FlowShare] = {}
        self._outboxes: dict[str, Outbox] = {}
        self._waiting: dict[str, trio.Event] = {}
        self._scopes: dict[str, trio.CancelScope] = {}
        self._beat = 0
        self._failing: set[str] = set()
        self.sent: Counter[str] = Counter()
        """Batches and bytes."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look for changes until cancelled, as long as there is a peer to tell."""
        task_status.started()
        while True:
            begun = trio.current_time()
            if self._outboxes:
                await self._look()
            await trio.sleep_until(begun + CHANGES_S)

    def lags(self, now: float) -> dict[str, float]:
        """Return by how many seconds each peer's copy of our flows is behind."""
        return {peer: outbox.lag(now) for peer, outbox in self._outboxes.items()}

    def overflows(self) -> int:
        """Return how often peers that are there now were too slow."""
        return sum(outbox.overflows for outbox in self._outboxes.values())

    async def serve(self, stream: SealedStream) -> None:
        """Send a peer everything, then what changes, until the stream ends.

        A peer that dials again has lost the other stream: that one ends.
        Raises RemoteProtocolError, Unreadable, trio.BrokenResourceError.
        """
        peer = stream.peer
        if peer in self._scopes:
            self._scopes[peer].cancel()
        outbox = Outbox(trio.current_time())
        with trio.CancelScope() as scope:
            self._scopes[peer], self._outboxes[peer] = scope, outbox
            self._waiting[peer] = trio.Event()
            try:
                await self._talk(stream, outbox)
            finally:
                if self._scopes.get(peer) is scope:
                    del self._scopes[peer], self._outboxes[peer], self._waiting[peer]

    async def _talk(self, stream: SealedStream, outbox: Outbox) -> None:
        await stream.send(encode(Hello()))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send, stream, outbox)
            await self._hear(stream, outbox)
            nursery.cancel_scope.cancel()

    async def _hear(self, stream: SealedStream, outbox: Outbox) -> None:
        first = True
        while True:
            with trio.fail_after(_SILENT_S):
                data = await stream.receive()
            if data is None:
                return
            message = decode(data)
            if first is not isinstance(message, Hello) or not isinstance(message, Hello | Ack):
                raise RemoteProtocolError("connection sharing: this comes out of turn")
            first = False
            if isinstance(message, Ack):
                outbox.acknowledged(message.number)

    async def _send(self, stream: SealedStream, outbox: Outbox) -> None:
        while True:
            if outbox.behind:
                await self._send_everything(stream, outbox)
            while (message := outbox.take()) is not None:
                await self._put(stream, message)
            await self._something(stream.peer, outbox)

    async def _something(self, peer: str, outbox: Outbox) -> None:
        if not outbox.behind:
            self._waiting[peer] = trio.Event()
            await self._waiting[peer].wait()

    async def _send_everything(self, stream: SealedStream, outbox: Outbox) -> None:
        outbox.begin()
        for name, share in self._shares().items():
            batches: Iterator[bytes] = await trio.to_thread.run_sync(share.everything)
            while (batch := await trio.to_thread.run_sync(next, batches, None)) is not None:
                await self._put(stream, Batch(name, batch))
                await self._put(stream, Beat(STILL_THERE))
                if outbox.behind:
                    return  # it became another data path, or too much changed meanwhile
        await self._put(stream, Whole())

    async def _put(self, stream: SealedStream, message: Message) -> None:
        data = encode(message)
        await stream.send(data)
        self.sent["bytes"] += len(data)
        self.sent["batches"] += isinstance(message, Batch)

    async def _look(self) -> None:
        shares = dict(self._shares())
        if {name: id(one) for name, one in shares.items()} != {
            name: id(one) for name, one in self._known.items()
        }:
            self._known = shares
            for outbox in self._outboxes.values():
                outbox.restart(trio.current_time())
        self._beat += 1
        found: list[tuple[str, list[bytes]]] = []
        for name, share in shares.items():
            try:
                found.append((name, await trio.to_thread.run_sync(share.changes)))
                self._failing.discard(name)
            except GaleError as error:
                if name not in self._failing:
                    log.error("flows_not_read", forwarder=name, reason=str(error))  # noqa: TRY400
                self._failing.add(name)
                return
        now = trio.current_time()
        for peer, outbox in self._outboxes.items():
            for name, batches in found or [("", [])]:
                outbox.put(name, batches, self._beat, now)
            self._waiting[peer].set()
