# SPDX-License-Identifier: Apache-2.0
"""A sync transport without a network, for tests in virtual time: `FakeNetwork`, `FakeTransport`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import trio

from galelb.errors import LocalProtocolError
from galelb.model import Peer
from galelb.transport import (
    MAX_RECORD_KEY,
    MAX_RECORD_VALUE,
    MAX_RECORDS,
    SyncTransport,
    TransportContext,
)

if TYPE_CHECKING:
    from galelb.group.keys import KeyRing

__all__ = ["FakeNetwork", "FakeTransport"]

_TICK_S = 0.05
_SILENCE_S = 0.5
"""Who is not heard for so long is dead."""


@attrs.define
class _Word:
    """What is known of one balancer; the higher age is the newer word."""

    peer: Peer
    age: tuple[int, int]
    """Its start, and how much it changed since."""
    records: dict[str, bytes]
    heard: float


class FakeNetwork:
    """What connects fake transports; give it to each as its options."""

    def __init__(self) -> None:
        self.running: dict[str, FakeTransport] = {}
        self.starts = 0
        self._cut: set[str] = set()

    def cut(self, name: str) -> None:
        """Let nothing reach or leave this balancer."""
        self._cut.add(name)

    def heal(self, name: str) -> None:
        """Undo `cut`."""
        self._cut.discard(name)

    def reachable(self, name: str) -> list[FakeTransport]:
        """Return the others that run and can be reached from here."""
        if name in self._cut:
            return []
        return [
            one for other, one in self.running.items() if other != name and other not in self._cut
        ]


class FakeTransport(SyncTransport):
    """Every 50 ms takes over all that the others know; half a second of silence is a death."""

    name = "fake"

    def __init__(self, options: Any, context: TransportContext) -> None:
        super().__init__(options, context)
        self._network: FakeNetwork = options
        self._network.starts += 1
        peer = Peer(address=context.address, port=context.port, alive=True, name=context.name)
        self._own = _Word(peer, (self._network.starts, 0), {}, 0)
        self._known: dict[str, _Word] = {}

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Take part until cancelled."""
        self._network.running[self.context.name] = self
        task_status.started()
        try:
            while True:
                self._listen()
                await trio.sleep(_TICK_S)
        finally:
            if self._network.running.get(self.context.name) is self:
                del self._network.running[self.context.name]

    def write(self, key: str, value: bytes | None) -> None:
        """Tell a record. Raises LocalProtocolError when it breaks a limit."""
        records = self._own.records
        if len(key.encode()) > MAX_RECORD_KEY or len(value or b"") > MAX_RECORD_VALUE:
            raise LocalProtocolError(f"record {key}: too long")
        if value is None:
            records.pop(key, None)
        elif key not in records and len(records) >= MAX_RECORDS:
            raise LocalProtocolError(f"record {key}: there are {MAX_RECORDS} records already")
        else:
            records[key] = value
        self._changed()

    async def leave(self) -> None:
        """Say goodbye to all who can be reached."""
        self._own.records = {}
        self._own.peer = attrs.evolve(self._own.peer, alive=False, left=True)
        self._changed()
        for other in self._network.reachable(self.context.name):
            other._take(self._own)
        await trio.lowlevel.checkpoint()

    @property
    def keys(self) -> KeyRing:
        """A key that all fake transports have."""
        from galelb.group.keys import KeyRing

        return KeyRing({1: b"k" * 32}, 1)

    def _changed(self) -> None:
        self._own.age = (self._own.age[0], self._own.age[1] + 1)

    def _listen(self) -> None:
        now = trio.current_time()
        self._own.heard = now
        for other in self._network.reachable(self.context.name):
            for word in (other._own, *other._known.values()):
                if word.peer.name != self.context.name:
                    self._take(word)
        for word in self._known.values():
            if word.peer.alive and now > word.heard + _SILENCE_S:
                word.peer = attrs.evolve(word.peer, alive=False)
                self.context.peer_changed(word.peer)

    def _take(self, word: _Word) -> None:
        name = word.peer.name
        before = self._known.get(name)
        if before is not None and (word.age, word.heard) <= (before.age, before.heard):
            return
        alive = not word.peer.left and trio.current_time() <= word.heard + _SILENCE_S
        peer = attrs.evolve(word.peer, alive=alive)
        self._known[name] = _Word(peer, word.age, dict(word.records), word.heard)
        if before is None or before.peer != peer:
            self.context.peer_changed(peer)
        old = {} if before is None else before.records
        for key in old.keys() - word.records.keys():
            self.context.record_changed(name, key, None)
        for key, value in word.records.items():
            if old.get(key) != value:
                self.context.record_changed(name, key, value)
