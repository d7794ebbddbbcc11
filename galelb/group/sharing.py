# SPDX-License-Identifier: Apache-2.0
"""Connection sharing: every balancer fetches the flows of every live peer over a stream of its own.

So any of them can go on with connections of one that dies. Who is a peer says the transport; who
may speak says the group's key.
"""

from __future__ import annotations

import random
import secrets
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from ipaddress import ip_address
from typing import TYPE_CHECKING

import attrs
import structlog
import trio

from galelb.control import metric_families as family
from galelb.errors import RemoteProtocolError
from galelb.flowshare import FlowShare
from galelb.group.doors import Doors
from galelb.group.handshake import CHALLENGE_BYTES, EPOCH_BYTES, Handshake
from galelb.group.reader import Unreadable
from galelb.group.share_giving import Giving
from galelb.group.share_messages import MAX_MESSAGE
from galelb.group.share_sockets import listen
from galelb.group.share_taking import Copy
from galelb.group.streams import SealedStream, meet
from galelb.model import IPAddress, Metric
from galelb.sockets import dial, prepared

if TYPE_CHECKING:
    from galelb.group.keys import KeyRing

__all__ = ["FlowSharing"]

log = structlog.get_logger("galelb.sharing")

Place = tuple[IPAddress, int]

_PURPOSE = b"flows"
_MEET_S = 2.0
"""What strangers get to prove themselves, connecting included."""
_RETRY_S, _LONGEST_RETRY_S = 0.2, 5.0
_AWAITED_S = 30.0
"""How long the next run of a peer is waited for when its daemon ended and its machine did not."""
_PEERS, _STRANGERS, _PER_SOURCE = 64, 16, 4
_BROKEN = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError)


@attrs.frozen(eq=False)
class _Followed:
    """A live peer whose flows are fetched."""

    name: str
    place: Place
    copy: Copy
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)


class FlowSharing:
    """A component; tell it the live peers by `peers`. Nothing that peers do ends it."""

    def __init__(
        self,
        *,
        name: str,
        address: IPAddress,
        port: int,
        keys: Callable[[], KeyRing],
        shares: Callable[[], Mapping[str, FlowShare]],
        on_change: Callable[[], None],
    ) -> None:
        """`on_change` is called when a copy became complete, or a peer's stream ended."""
        self._name, self._address, self._port = name, address, port
        self._keys = keys
        self._shares = shares
        self._on_change = on_change
        self._epoch = secrets.token_bytes(EPOCH_BYTES)
        self._giving = Giving(shares)
        self._followed: dict[str, _Followed] = {}
        self._former: Counter[str] = Counter()
        """What became of flows of peers that are gone: counters do not go back."""
        self._closed: dict[str, float] = {}
        """When a peer's kernel said last that nobody listens there."""
        self._nursery: trio.Nursery | None = None
        self._refused: Counter[str] = Counter()
        self._doors = Doors(
            self._is_peer, peers=_PEERS, strangers=_STRANGERS, per_source=_PER_SOURCE
        )

    def peers(self, peers: Mapping[str, Place]) -> None:
        """Fetch the flows of exactly these, by name; never blocks."""
        for one in list(self._followed.values()):
            if one.place != peers.get(one.name):
                self._former += self._followed.pop(one.name).copy.flows
                one.scope.cancel()
        for name in peers.keys() - self._followed.keys():
            copy = Copy(name, self._shares, self._on_change)
            one = self._followed[name] = _Followed(name, peers[name], copy)
            if self._nursery is not None:
                self._nursery.start_soon(self._follow, one)

    def prove_again(self) -> None:
        """Have every peer prove anew that it has a key, after one was taken away."""
        self._giving.end_all()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Share until cancelled. Raises GaleError when another program has the port."""
        listener = listen(self._address, self._port)
        async with listener, trio.open_nursery() as self._nursery:
            await self._nursery.start(self._giving.run)
            self._nursery.start_soon(self._accept, listener, self._nursery)
            for one in self._followed.values():
                self._nursery.start_soon(self._follow, one)
            task_status.started()

    # what there is to see

    @property
    def lags(self) -> Mapping[str, float]:
        """Seconds by which each peer's copy of our flows is behind."""
        return self._giving.lags(trio.current_time())

    @property
    def complete(self) -> bool:
        """Whether the flows of all live peers are here, or there is nothing to share."""
        now = trio.current_time()
        settled = [one.copy.settled(now) for one in self._followed.values()]
        return not self._shares() or all(settled)

    @property
    def as_of(self) -> float:
        """Return the moment since which the oldest copy knows nothing; who gives none is not
        waited for.
        """
        now = trio.current_time()
        copies = [one.copy for one in self._followed.values() if not one.copy.given_up]
        return min([now, *(copy.as_of for copy in copies)])

    def awaited(self, peer: str) -> bool:
        """Whether a peer's daemon ended a moment ago and its kernel did not.

        Its programs go on making flows that nobody else hears of before its next run.
        """
        return trio.current_time() < self._closed.get(peer, float("-inf")) + _AWAITED_S

    def current(self) -> Collection[str]:
        """Return the live peers whose flows are here but for the last moments."""
        now = trio.current_time()
        return [name for name, one in self._followed.items() if one.copy.current(now)]

    def behind(self, peer: str) -> tuple[bool, float | None] | None:
        """Return whether our copy of a peer's flows is complete, and how far it is behind."""
        one = self._followed.get(peer)
        if one is None or not self._shares():
            return None
        return one.copy.complete, one.copy.behind(trio.current_time())

    def notes(self) -> list[str]:
        """Return what `galelb status` should say, one sentence each."""
        return [
            f"peer {name} gives no connections: those that it has would break with it"
            for name, one in sorted(self._followed.items())
            if one.copy.given_up and self._shares()
        ]

    def metrics(self) -> list[Metric]:
        """Return how much is shared, and how far copies are behind."""
        return list(self._metrics())

    def _metrics(self) -> Iterator[Metric]:
        now = trio.current_time()
        flows = self._former.copy()
        for name, one in self._followed.items():
            flows += one.copy.flows
            yield family.COPY_BEHIND.sample(one.copy.behind(now), name)
            yield family.COPY_COMPLETE.sample(one.copy.complete, name)
        for name, lag in self._giving.lags(now).items():
            yield family.COPY_LAG.sample(lag, name)
        for result in ("added", "updated", "known", "waiting", "refused", "skipped", "failed"):
            yield family.SHARED_FLOWS.sample(flows[result], result)
        yield family.SHARED_BYTES.sample(self._giving.sent["bytes"])
        for reason, count in self._refused.items():
            yield family.SHARING_REFUSED.sample(count, reason)

    # fetching

    async def _follow(self, one: _Followed) -> None:
        """Keep the copy of one peer; tries again for as long as it lives."""
        pause = _RETRY_S
        with one.scope:
            while True:
                begun = trio.current_time()
                await self._fetch(one)
                self._on_change()
                # A stream that worked for a while is worth another one at once.
                lasted = trio.current_time() - begun > _LONGEST_RETRY_S
                pause = _RETRY_S if lasted else min(2 * pause, _LONGEST_RETRY_S)
                await trio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter

    async def _fetch(self, one: _Followed) -> None:
        try:
            with trio.fail_after(_MEET_S):
                stream = await dial(self._address, *one.place)
            async with stream:
                sealed = await self._meet(stream, connects=True)
                if sealed.peer != one.name:
                    raise Unreadable("another_peer")
                self._closed.pop(one.name, None)
                await one.copy.take(sealed)
        except* ConnectionRefusedError:
            self._note_closed(one.name)
        except* _BROKEN:
            pass
        except* RemoteProtocolError as errors:
            self._refuse(errors, one.place[0])

    def _note_closed(self, peer: str) -> None:
        now = trio.current_time()
        self._closed = {name: at for name, at in self._closed.items() if now < at + _AWAITED_S}
        self._closed[peer] = now

    # serving

    async def _accept(self, listener: trio.SocketListener, nursery: trio.Nursery) -> None:
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:
                log.warning("sharing_accept_failed", reason=str(error))
                await trio.sleep(_RETRY_S)
                continue
            nursery.start_soon(self._serve, stream)

    async def _serve(self, stream: trio.SocketStream) -> None:
        async with stream:
            try:
                source = ip_address(stream.socket.getpeername()[0].partition("%")[0])
            except OSError:
                return  # it is gone already
            place = self._doors.enter(source)
            if place is None:
                self._refused["too_many_streams"] += 1
                return
            try:
                await self._giving.serve(await self._meet(prepared(stream), connects=False))
            except* _BROKEN:
                pass
            except* RemoteProtocolError as errors:
                self._refuse(errors, source)
            finally:
                self._doors.leave(place)

    # both

    async def _meet(self, stream: trio.SocketStream, *, connects: bool) -> SealedStream:
        handshake = Handshake(
            self._name,
            self._epoch,
            self._keys(),
            secrets.token_bytes(CHALLENGE_BYTES),
            purpose=_PURPOSE,
            connects=connects,
        )
        with trio.fail_after(_MEET_S):
            return await meet(stream, handshake, MAX_MESSAGE)

    def _is_peer(self, source: IPAddress) -> bool:
        return any(source == one.place[0] for one in self._followed.values())

    def _refuse(self, errors: BaseExceptionGroup[RemoteProtocolError], source: IPAddress) -> None:
        """Count why a stream was broken off; of each reason the first one is logged."""
        error: BaseException = errors
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        reason = error.reason if isinstance(error, Unreadable) else "unreadable"
        self._refused[reason] += 1
        if self._refused[reason] == 1:
            log.warning("sharing_refused", source=str(source), reason=str(error))
