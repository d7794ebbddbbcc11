# SPDX-License-Identifier: Apache-2.0
"""What etcd says of the other members, and what of it is new to the core; no input and output."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import attrs
from galelb_plugins.sync_etcd.layout import Change, Layout, Place

from galelb.model import Peer
from galelb.transport import MAX_RECORD_KEY, MAX_RECORD_VALUE, MAX_RECORDS

__all__ = ["MAX_MEMBERS", "View"]

MAX_MEMBERS = 128


@attrs.define
class _Member:
    place: Place | None = None
    alive: str | None = None
    """The epoch that lives."""
    records: dict[str, bytes] = attrs.Factory(dict)
    told: Peer | None = None
    told_records: dict[str, bytes] = attrs.Factory(dict)


class View:
    """Takes in what is in etcd, and tells what of it changed."""

    def __init__(
        self,
        layout: Layout,
        own: str,
        peer_changed: Callable[[Peer], None],
        record_changed: Callable[[str, str, bytes | None], None],
    ) -> None:
        self.ignored = 0
        """Keys that were none of ours or broke a limit."""
        self._layout = layout
        self._own = own
        self._peer_changed = peer_changed
        self._record_changed = record_changed
        self._members: dict[str, _Member] = {}

    def peers(self) -> list[Peer]:
        """Return the peers that the core knows."""
        return [one.told for one in self._members.values() if one.told is not None]

    def apply(self, changes: Iterable[Change]) -> None:
        """Take in changes in the order in which they were made."""
        touched = {name: None for change in changes for name in self._take(change)}
        for name in touched:
            self._tell(name)

    def replace(self, entries: Iterable[Change], *, keep: bool) -> bool:
        """Take in all that is there; what is not is gone. Returns whether something was kept.

        With `keep` members that are missing stay as they were: etcd may have lost its data, and
        they are about to write themselves anew.
        """
        before = self._members
        self._members = {}
        for entry in entries:
            for _ in self._take(entry):
                pass
        missing = [name for name, one in before.items() if one.told is not None]
        missing = [name for name in missing if not self._is_placed(name)]
        for name, old in before.items():
            if keep and name in missing:
                self._members[name] = old
            else:
                new = self._members.setdefault(name, _Member())
                new.told, new.told_records = old.told, old.told_records
        for name in list(self._members):
            self._tell(name)
        return keep and bool(missing)

    def _is_placed(self, name: str) -> bool:
        return name in self._members and self._members[name].place is not None

    def _take(self, change: Change) -> Iterable[str]:
        try:
            kind, name, key = self._layout.split(change.key)
            if name == self._own:
                return
            member = self._member(name)
            if kind == "member":
                member.place = None if change.value is None else Place.parse(change.value)
            elif kind == "alive":
                member.alive = None if change.value is None else change.value.decode()
            else:
                _take_record(member.records, key, change.value)
        except (ValueError, RecursionError):
            self.ignored += 1
            return
        yield name

    def _member(self, name: str) -> _Member:
        if name not in self._members and len(self._members) >= MAX_MEMBERS:
            raise ValueError("too many members")
        return self._members.setdefault(name, _Member())

    def _tell(self, name: str) -> None:
        member = self._members[name]
        if member.place is None:
            self._tell_gone(name, member)
            return
        place = member.place
        alive = member.alive == place.epoch
        peer = Peer(address=place.address, port=place.port, alive=alive, name=name)
        if peer != member.told:
            member.told = peer
            self._peer_changed(peer)
        self._tell_records(name, member, member.records)

    def _tell_gone(self, name: str, member: _Member) -> None:
        if member.told is not None:
            self._tell_records(name, member, {})
            self._peer_changed(attrs.evolve(member.told, alive=False, left=True))
            member.told = None
        if member.alive is None and not member.records:
            del self._members[name]

    def _tell_records(self, name: str, member: _Member, wanted: dict[str, bytes]) -> None:
        told, member.told_records = member.told_records, dict(wanted)
        for key in told.keys() - wanted.keys():
            self._record_changed(name, key, None)
        for key, value in wanted.items():
            if told.get(key) != value:
                self._record_changed(name, key, value)


def _take_record(records: dict[str, bytes], key: str, value: bytes | None) -> None:
    if value is None:
        records.pop(key, None)
    elif len(key.encode()) > MAX_RECORD_KEY or len(value) > MAX_RECORD_VALUE:
        raise ValueError("too long")
    elif key not in records and len(records) >= MAX_RECORDS:
        raise ValueError("too many records")
    else:
        records[key] = value
