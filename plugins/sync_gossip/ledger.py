# SPDX-License-Identifier: Apache-2.0
"""What the core was told of peers and their records, in the order that transports promise.

A peer comes before its records, and the records of one that left are deleted, although gossip
may carry them further.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
from galelb_plugins.sync_gossip.messages import (
    Forgotten,
    MemberChanged,
    Record,
    RecordChanged,
    State,
)

from galelb.model import Peer

__all__ = ["Ledger"]

_LIVE = (State.ALIVE, State.SUSPECT)


@attrs.define
class _Told:
    peer: Peer
    records: dict[str, bytes] = attrs.field(factory=dict)


class Ledger:
    """Tells the core what is new to it; `records_of` returns a peer's records, none deleted."""

    def __init__(
        self,
        peer_changed: Callable[[Peer], None],
        record_changed: Callable[[str, str, bytes | None], None],
        records_of: Callable[[str], list[Record]],
    ) -> None:
        self._peer_changed = peer_changed
        self._record_changed = record_changed
        self._records_of = records_of
        self._told: dict[str, _Told] = {}

    def note(self, change: MemberChanged | RecordChanged | Forgotten) -> None:
        """Tell the core what follows from a change."""
        match change:
            case MemberChanged():
                self._note_member(change)
            case RecordChanged(record):
                self._note_record(record)
            case Forgotten(name):
                self._delete_records(name)
                self._told.pop(name, None)

    def _note_member(self, change: MemberChanged) -> None:
        host, port = change.address
        peer = Peer(
            address=host,
            port=port,
            alive=change.state in _LIVE,  # a suspect is alive until it is declared dead
            name=change.name,
            left=change.state is State.LEFT,
        )
        told = self._told.setdefault(change.name, _Told(peer))
        if told.peer != peer or (change.before is None and not peer.left):
            told.peer = peer
            self._peer_changed(peer)
        if peer.left:
            self._delete_records(change.name)
        else:
            for record in self._records_of(change.name):
                self._note_record(record)

    def _note_record(self, record: Record) -> None:
        told = self._told.get(record.origin)
        if told is None or told.peer.left or told.records.get(record.key) == record.value:
            return
        if record.value is None:
            del told.records[record.key]
        else:
            told.records[record.key] = record.value
        self._record_changed(record.origin, record.key, record.value)

    def _delete_records(self, name: str) -> None:
        told = self._told.get(name)
        for key in sorted(told.records) if told else ():
            del self._told[name].records[key]
            self._record_changed(name, key, None)
