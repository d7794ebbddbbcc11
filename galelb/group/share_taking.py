# SPDX-License-Identifier: Apache-2.0
"""The taking side of connection sharing: fetches the flows of one peer and keeps the copy fresh."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

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
    check_first,
    decode,
    encode,
)
from galelb.group.streams import SealedStream
from galelb.plugins.blame import blamed

__all__ = ["CURRENT_S", "GIVE_UP_S", "SILENT_S", "Copy"]

log = structlog.get_logger("galelb.sharing")

SILENT_S = 3.0
"""Beats come several times a second; without anything for so long the stream is given up."""
CURRENT_S = 2.0
"""A copy that is less behind is current."""
_FRESH_S = 30.0
"""So long after its stream broke a copy that was current counts as such: the peer may be dying."""
GIVE_UP_S = 10.0
"""Who joins does not wait longer than this for a peer that gives nothing."""


class Copy:
    """The copy of one live peer's flows; `take` is run on each stream to it.

    `changed` is called when the copy has become complete or current.
    """

    def __init__(
        self,
        peer: str,
        shares: Callable[[], Mapping[str, FlowShare]],
        changed: Callable[[], None],
    ) -> None:
        now = trio.current_time()
        self.complete = False
        """Whether everything was here once, since this peer is alive."""
        self.given_up = False
        self.flows: Counter[str] = Counter()
        """What became of flows: added, updated, known, waiting, refused; skipped batches."""
        self._peer = peer
        self._shares = shares
        self._changed = changed
        self._skipped: set[str] = set()
        self._lost = False
        self.as_of = now
        """The moment since which it knows nothing."""
        self._progress = now
        self._broken_at: float | None = now
        """When the last stream broke that had brought everything; None = the one of now has."""
        self._was_current = False

    def behind(self, now: float) -> float:
        """Return by how many seconds the copy is behind."""
        return now - self.as_of

    def current(self, now: float) -> bool:
        """Whether it is as good as what the peer has, or had when its stream broke."""
        if self._broken_at is None:
            return self.complete and self.behind(now) < CURRENT_S
        return self._was_current and now - self._broken_at < _FRESH_S

    def settled(self, now: float) -> bool:
        """Whether there is nothing to wait for; says loudly when a peer is given up."""
        if self.complete:
            return True
        if not self.given_up and now - self._progress > GIVE_UP_S:
            self.given_up = True
            log.error("peer_gives_no_flows", peer=self._peer, waited_s=GIVE_UP_S)
        return self.given_up

    async def take(self, stream: SealedStream) -> None:
        """Take in what the peer sends until the stream ends.

        Raises RemoteProtocolError, Unreadable, trio.BrokenResourceError, trio.TooSlowError.
        """
        self._skipped.clear()
        self._lost = False
        await stream.send(encode(Hello()))
        try:
            check_first(await self._next(stream))
            while (message := await self._next(stream)) is not None:
                if (answer := await self._take_in(message)) is not None:
                    await stream.send(encode(answer))
                if self._lost or self._skipped & self._shares().keys():
                    return  # the next stream brings what was skipped or could not be written
        finally:
            self._broke(trio.current_time())

    def _broke(self, now: float) -> None:
        if self._broken_at is None:
            self._was_current = self.behind(now) < CURRENT_S + SILENT_S
            self._broken_at = now

    async def _next(self, stream: SealedStream) -> Message | None:
        with trio.fail_after(SILENT_S):
            data = await stream.receive()
        return None if data is None else decode(data)

    async def _take_in(self, message: Message) -> Ack | None:
        now = trio.current_time()
        match message:
            case Batch(forwarder, data):
                self._progress = now
                await self._accept(forwarder, data)
            case Whole(age_ms):
                self._became_whole(now - age_ms / 1000)
            case Beat(number, age_ms):
                if number != STILL_THERE:
                    self.as_of = now - age_ms / 1000
                return Ack(number)
            case _:
                raise RemoteProtocolError("connection sharing: this comes out of turn")
        return None

    def _became_whole(self, as_of: float) -> None:
        self.complete, self.given_up = True, False
        self._broken_at, self.as_of = None, as_of
        log.info("peer_flows_complete", peer=self._peer, **self.flows)
        self._changed()

    async def _accept(self, forwarder: str, data: bytes) -> None:
        share = self._shares().get(forwarder)
        if share is None:
            self.flows["skipped"] += 1
            self._skipped.add(forwarder)
            return
        try:
            with blamed(forwarder, "accept"):
                done = await trio.to_thread.run_sync(share.accept, data)
        except RemoteProtocolError:
            raise
        except GaleError as error:
            self.flows["failed"] += 1
            self._lost = True
            if self.flows["failed"] == 1:
                log.error("flows_not_taken", peer=self._peer, reason=str(error))  # noqa: TRY400
            return
        for result in ("added", "updated", "known", "waiting", "refused"):
            self.flows[result] += getattr(done, result)
