# SPDX-License-Identifier: Apache-2.0
"""Exchanges over TCP: those that this member begins, and those of others, all of them bounded."""

from __future__ import annotations

import itertools
import secrets
import socket
from collections import Counter
from ipaddress import ip_address
from typing import TYPE_CHECKING, NoReturn

import trio
from galelb_plugins.sync_gossip.messages import Address, Exchange, Message, Snapshot
from galelb_plugins.sync_gossip.trouble import Trouble
from galelb_plugins.sync_gossip.wire import MAX_SNAPSHOT, Unreadable, decode, encode

from galelb.group.doors import Doors
from galelb.group.handshake import CHALLENGE_BYTES, Handshake
from galelb.group.reader import Reader
from galelb.group.streams import SealedStream, meet
from galelb.model import IPAddress
from galelb.sockets import dial, prepared

if TYPE_CHECKING:
    from galelb_plugins.sync_gossip.member import Member

__all__ = ["Streams"]

_PURPOSE = b"gossip"
_MEET_S = 2.0
"""What strangers get to prove themselves, connecting included."""
_EXCHANGE_S = 10.0
_COUNTER_BYTES = 8
_DIRECTIONS = ("in", "out")
_RESULTS = ("ok", "failed", "refused")
_MOST_CALLS = 64
_PEERS, _STRANGERS, _PER_SOURCE = 64, 32, 8
_PAUSE_S = 0.1
"""After accept failed, for want of files or memory."""
_BROKEN = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError)


class Streams:
    """Opens and accepts the streams of one member."""

    def __init__(self, member: Member) -> None:
        self.counts = Counter(dict.fromkeys(itertools.product(_DIRECTIONS, _RESULTS), 0))
        """Streams by direction (in, out) and result (ok, failed, refused)."""
        self._member = member
        self._epoch = b""
        self._nursery: trio.Nursery | None = None
        self._calling: set[Address] = set()
        self._trouble = Trouble()
        self._doors = Doors(
            member.is_peer, peers=_PEERS, strangers=_STRANGERS, per_source=_PER_SOURCE
        )

    async def run(
        self, tcp: socket.socket, epoch: bytes, *, task_status: trio.TaskStatus[None]
    ) -> None:
        """Accept streams until cancelled; `call` works from `started` on."""
        self._epoch = epoch
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                await self._accept(trio.socket.from_stdlib_socket(tcp), nursery)
            finally:
                self._nursery = None  # it takes no more tasks

    # Those that this member begins.

    def call(self, exchange: Exchange) -> None:
        """Begin an exchange, unless there are too many or one with that member already."""
        address = exchange.address
        if self._nursery is None or address in self._calling:
            return
        if len(self._calling) >= _MOST_CALLS:
            self.counts["out", "refused"] += 1
            return
        self._calling.add(address)
        self._nursery.start_soon(self._call, exchange)

    async def _call(self, exchange: Exchange) -> None:
        try:
            with trio.fail_after(_EXCHANGE_S):
                with trio.fail_after(_MEET_S):
                    stream = await dial(self._member.host, *exchange.address)
                async with stream:
                    sealed = await self._meet(stream, connects=True)
                    await self._send(sealed, exchange.message)
                    await self._answer(sealed, exchange.address)
        except _BROKEN:
            self.counts["out", "failed"] += 1
        except Unreadable as error:
            self.counts["out", "failed"] += 1
            self._member.refuse(error.reason, exchange.address[0])
        else:
            self.counts["out", "ok"] += 1
        finally:
            self._calling.discard(exchange.address)

    # Those of others.

    async def _accept(self, listener: trio.socket.SocketType, nursery: trio.Nursery) -> NoReturn:
        while True:
            try:
                stream, source = await listener.accept()
            except OSError as error:
                self._trouble.note("accept", error)
                await trio.sleep(_PAUSE_S)
                continue
            address = ip_address(source[0].partition("%")[0]), source[1]
            place = self._doors.enter(address[0])
            if place is None:
                self.counts["in", "refused"] += 1
                stream.close()
                continue
            nursery.start_soon(self._serve, stream, address, place)

    async def _serve(
        self, accepted: trio.socket.SocketType, source: Address, place: tuple[bool, IPAddress]
    ) -> None:
        try:
            with trio.fail_after(_EXCHANGE_S):
                async with prepared(trio.SocketStream(accepted)) as stream:
                    sealed = await self._meet(stream, connects=False)
                    await self._answer(sealed, source)
                    await sealed.receive()  # the other side has read it when it ends the stream
        except _BROKEN:
            self.counts["in", "failed"] += 1
        except Unreadable as error:
            self.counts["in", "failed"] += 1
            self._member.refuse(error.reason, source[0])
        else:
            self.counts["in", "ok"] += 1
        finally:
            accepted.close()
            self._doors.leave(place)

    # Both.

    async def _meet(self, stream: trio.SocketStream, *, connects: bool) -> SealedStream:
        handshake = Handshake(
            self._member.name,
            self._epoch,
            self._member.ring,
            secrets.token_bytes(CHALLENGE_BYTES),
            purpose=_PURPOSE,
            connects=connects,
        )
        with trio.fail_after(_MEET_S):
            return await meet(stream, handshake, _COUNTER_BYTES + MAX_SNAPSHOT)

    async def _answer(self, sealed: SealedStream, source: Address) -> None:
        """Take one snapshot, and send what the protocol answers to it."""
        data = await sealed.receive()
        if data is None:
            raise Unreadable("truncated")
        reader = Reader(data[:_COUNTER_BYTES])
        counter = int.from_bytes(reader.take(_COUNTER_BYTES), "big")
        message: Message = decode(data[_COUNTER_BYTES:], MAX_SNAPSHOT)
        if not isinstance(message, Snapshot):
            raise Unreadable("unknown_message")
        member = self._member
        member.admit(sealed.peer, sealed.epoch, counter)
        member.swim.receive(trio.current_time(), sealed.peer, source, message)
        for answer in member.act():
            await self._send(sealed, answer)

    async def _send(self, sealed: SealedStream, message: Snapshot) -> None:
        counter = self._member.counter.to_bytes(_COUNTER_BYTES, "big")
        await sealed.send(counter + encode(message))
