# SPDX-License-Identifier: Apache-2.0
"""Records of all members: each is written by its origin alone, the highest version holds."""

from __future__ import annotations

from collections.abc import Iterator

from galelb_plugins.sync_gossip.messages import Record
from galelb_plugins.sync_gossip.wire import MAX_KEY, MAX_VALUE

from galelb.errors import LocalProtocolError

__all__ = ["Records"]


class Records:
    """What every origin has said, at most `limit` records of each of at most `origins`.

    Where there is no more room the record that was deleted first is forgotten. Should somebody who
    missed the deletion still tell of it, its origin deletes it again.
    """

    def __init__(self, own: str, origins: int, limit: int) -> None:
        self._own = own
        self._origins = origins
        self._limit = limit
        self._records: dict[str, dict[str, Record]] = {own: {}}

    def __iter__(self) -> Iterator[Record]:
        for records in self._records.values():
            yield from records.values()

    def get(self, origin: str, key: str) -> Record | None:
        """Return a record, deleted ones too; None if nothing was heard of it."""
        return self._records.get(origin, {}).get(key)

    def write(self, key: str, value: bytes | None) -> Record | None:
        """Set a record of this member's own; return it, or None if it says so already.

        Raises:
            LocalProtocolError: key or value are too long, or there are too many records.
        """
        if not 0 < len(key.encode()) <= MAX_KEY or len(value or b"") > MAX_VALUE:
            text = f"record {key!r}: keys have 1 to {MAX_KEY} bytes, values up to {MAX_VALUE}"
            raise LocalProtocolError(text)
        before = self.get(self._own, key)
        if value is None if before is None else before.value == value:
            return None
        if not self._make_room(self._own, key):
            raise LocalProtocolError(f"record {key!r}: there are {self._limit} records already")
        return self._store(Record(self._own, key, before.version + 1 if before else 1, value))

    def merge(self, record: Record) -> Record | None:
        """Take a record from others; return what is to be spread, None if nothing is new.

        A record of this member's own that is newer than what it knows comes from before its
        restart: it is answered by a newer version of what holds now.
        """
        known = self.get(record.origin, record.key)
        if known is not None and record.rank <= known.rank:
            return None
        if known is None and record.value is None and self._needs_no_deletion(record.origin):
            return None
        if not self._make_room(record.origin, record.key):
            return None
        if record.origin == self._own:
            value = known.value if known else None
            return self._store(Record(self._own, record.key, record.version + 1, value))
        return self._store(record)

    def forget(self, origin: str) -> None:
        """Drop what a member has said that is itself forgotten."""
        self._records.pop(origin, None)

    def of(self, origin: str) -> list[Record]:
        """Return the records of one origin, without deleted ones."""
        return [one for one in self._records.get(origin, {}).values() if one.value is not None]

    def _needs_no_deletion(self, origin: str) -> bool:
        """Whether it is pointless to note that a record is deleted which is not known.

        It would take the place of another deleted one, and that would come back in its turn.
        """
        return origin == self._own or len(self._records.get(origin, ())) >= self._limit

    def _make_room(self, origin: str, key: str) -> bool:
        records = self._records.get(origin)
        if records is None:
            return len(self._records) < self._origins
        if key in records or len(records) < self._limit:
            return True
        deleted = next((one.key for one in records.values() if one.value is None), None)
        if deleted is None:
            return False
        del records[deleted]
        return True

    def _store(self, record: Record) -> Record:
        records = self._records.setdefault(record.origin, {})
        records.pop(record.key, None)  # the order is that of changes
        records[record.key] = record
        return record
