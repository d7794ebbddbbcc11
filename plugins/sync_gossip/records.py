# SPDX-License-Identifier: Apache-2.0
"""Records of all members: each is written by its origin alone, the highest version holds."""

from __future__ import annotations

from collections.abc import Iterator

from galelb_plugins.sync_gossip.messages import Record
from galelb_plugins.sync_gossip.wire import MAX_KEY, MAX_VALUE

from galelb.errors import LocalProtocolError

__all__ = ["Records"]


class Records:
    """What every origin has said, at most `limit` records of each of at most `origins`."""

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
        if before is None and (value is None or len(self._records[self._own]) >= self._limit):
            if value is None:
                return None
            raise LocalProtocolError(f"record {key!r}: there are {self._limit} records already")
        if before is not None and before.value == value:
            return None
        return self._store(Record(self._own, key, before.version + 1 if before else 1, value))

    def merge(self, record: Record) -> Record | None:
        """Take a record from others; return what is to be spread, None if nothing is new.

        A record of this member's own that is newer than what it knows comes from before its
        restart: it is answered by a newer version of what holds now.
        """
        known = self.get(record.origin, record.key)
        if known is not None and record.rank <= known.rank:
            return None
        if not self._has_room(record):
            return None
        if record.origin == self._own:
            value = known.value if known else None
            return self._store(Record(self._own, record.key, record.version + 1, value))
        return self._store(record)

    def forget(self, origin: str) -> None:
        """Drop what a member has said that is itself forgotten."""
        self._records.pop(origin, None)

    def _has_room(self, record: Record) -> bool:
        records = self._records.get(record.origin)
        if records is None:
            return len(self._records) < self._origins
        return record.key in records or len(records) < self._limit

    def _store(self, record: Record) -> Record:
        self._records.setdefault(record.origin, {})[record.key] = record
        return record
