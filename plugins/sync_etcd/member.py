# SPDX-License-Identifier: Apache-2.0
"""This balancer in etcd: its lease, its place and its records, kept as they should be."""

from __future__ import annotations

import contextlib
import math
import secrets
from collections.abc import Callable
from typing import Any

import trio
from galelb_plugins.sync_etcd.gateway import EtcdError, Gateway
from galelb_plugins.sync_etcd.layout import Layout, Place, encode, read_change
from galelb_plugins.sync_etcd.reading import read_all

from galelb.errors import LocalProtocolError
from galelb.model import Peer
from galelb.transport import (
    MAX_RECORD_KEY,
    MAX_RECORD_VALUE,
    MAX_RECORDS,
    TransportContext,
)

__all__ = ["Member", "NamesakeError"]

_BATCH = 100
"""Operations of one transaction; etcd's own limit is 128."""
_FORGET_S = 86400.0
_BEAT_EACH = 3
"""Renewals of the lease from one beat to the next: one lease_ttl."""


class NamesakeError(EtcdError):
    """Another balancer uses the name of this one."""


class Member:
    """Writes what this balancer is and says; reads nothing of others."""

    def __init__(self, context: TransportContext, layout: Layout) -> None:
        self.wanted: dict[str, bytes] = {}
        self._written: dict[str, bytes] = {}
        self._dirty: dict[str, None] = {}
        """Keys of records to compare, in the order in which they changed."""
        self._layout = layout
        self._name = context.name
        self._place = Place(context.address, context.port, secrets.token_hex(8))
        self._wake = trio.Event()
        self._lease = ""
        self._dead_since: dict[str, float] = {}

    def write(self, key: str, value: bytes | None) -> None:
        """Set what a record should be. Raises LocalProtocolError when it breaks a limit."""
        if not 0 < len(key.encode()) <= MAX_RECORD_KEY:
            raise LocalProtocolError(
                f"record {key!r}: the key must have 1 to {MAX_RECORD_KEY} bytes"
            )
        if value is not None and len(value) > MAX_RECORD_VALUE:
            raise LocalProtocolError(f"record {key!r}: has more than {MAX_RECORD_VALUE} bytes")
        if value is None:
            self.wanted.pop(key, None)
        elif key not in self.wanted and len(self.wanted) >= MAX_RECORDS:
            raise LocalProtocolError(f"record {key!r}: there are {MAX_RECORDS} records already")
        else:
            self.wanted[key] = value
        self._dirty[key] = None
        self._wake.set()

    async def register(self, gateway: Gateway, ttl: int) -> None:
        """Take a lease and be alive on it; then find out which records are there."""
        self._lease = str(int((await gateway.ask("lease/grant", {"TTL": str(ttl)}))["ID"]))
        place = {
            "key": encode(self._layout.member(self._name)),
            "value": encode(self._place.pack()),
        }
        alive = {"key": encode(self._layout.alive(self._name)), "value": encode(self._epoch)}
        puts = [{"request_put": place}, {"request_put": alive | {"lease": self._lease}}]
        await gateway.ask("kv/txn", {"success": puts})
        root = self._layout.record(self._name)
        entries, _ = await read_all(gateway, root)
        self._written = {
            change.key[len(root) :].decode(errors="replace"): change.value or b""
            for change in map(read_change, entries)
        }
        self._dirty = dict.fromkeys([*self._written, *self.wanted])

    async def stay(
        self, gateway: Gateway, ttl: int, well: Callable[[], None], seen: Callable[[], int]
    ) -> None:
        """Keep the lease, and write what changes. Ends only with EtcdError, ValueError, KeyError.

        `seen` says up to which revision this balancer knows what is in etcd: when that stays
        behind what it wrote itself, it decides by what is old, and should not count as alive.
        """
        due = -math.inf
        beats = 0
        wrote = 0
        while True:
            now = trio.current_time()
            self._wake = trio.Event()
            if now >= due:
                await self._renew(gateway)
                if beats % _BEAT_EACH == 0:
                    if seen() < wrote:
                        raise EtcdError(f"{gateway.endpoint}: changes do not arrive any more")
                    wrote = await self._beat(gateway)
                beats += 1
                due = now + ttl / 3
                well()
            if self._dirty:
                await self._flush(gateway)
                continue
            with trio.move_on_at(due):
                await self._wake.wait()

    async def leave(self, gateway: Gateway) -> None:
        """Delete all that is this balancer's.

        A request that was given up may still reach etcd after the first deletion, and write this
        balancer anew: without the lease it cannot, so what is left then is deleted for good.
        """
        place, alive = self._still_mine()
        await self._delete(gateway, self._name, [place, alive])
        if self._lease:
            with contextlib.suppress(EtcdError):  # it may have ended by itself
                await gateway.ask("lease/revoke", {"ID": self._lease})
            await self._delete(gateway, self._name, [place])

    async def forget(self, gateway: Gateway, peers: list[Peer]) -> None:
        """Delete what peers left that are dead for a day; whoever is first does it."""
        now = trio.current_time()
        dead = {peer.name for peer in peers if not peer.alive}
        self._dead_since = {name: self._dead_since.get(name, now) for name in dead}
        for name, since in list(self._dead_since.items()):
            if now >= since + _FORGET_S:
                alive = {"key": encode(self._layout.alive(name)), "target": "VERSION"}
                await self._delete(gateway, name, [alive | {"version": "0", "result": "EQUAL"}])

    @property
    def _epoch(self) -> bytes:
        return self._place.epoch.encode()

    async def _delete(self, gateway: Gateway, name: str, compare: list[dict[str, Any]]) -> None:
        records = self._layout.record(name)
        ranges = [
            {"key": encode(self._layout.member(name))},
            {"key": encode(self._layout.alive(name))},
            {"key": encode(records), "range_end": encode(records[:-1] + b"0")},
        ]
        deletes = [{"request_delete_range": one} for one in ranges]
        await gateway.ask("kv/txn", {"compare": compare, "success": deletes})

    async def _renew(self, gateway: Gateway) -> None:
        answer = await gateway.ask("lease/keepalive", {"ID": self._lease})
        if int(answer.get("TTL", 0)) <= 0:
            raise EtcdError(f"{gateway.endpoint}: this balancer's lease has ended")

    async def _beat(self, gateway: Gateway) -> int:
        """Write again that this balancer lives; returns the revision of that."""
        alive = {"key": encode(self._layout.alive(self._name)), "value": encode(self._epoch)}
        step = {"request_put": alive | {"lease": self._lease}}
        return int((await self._write(gateway, [step]))["header"]["revision"])

    async def _write(self, gateway: Gateway, steps: list[dict[str, Any]]) -> dict[str, Any]:
        """Write if etcd still holds this balancer. Raises NamesakeError if it holds another."""
        key = encode(self._layout.member(self._name))
        look = [{"request_range": {"key": key}}]
        body = {"compare": self._still_mine(), "success": steps, "failure": look}
        answer = await gateway.ask("kv/txn", body)
        if answer.get("succeeded") is True:
            return answer
        for entry in answer["responses"][0]["response_range"].get("kvs", []):
            other = Place.parse(read_change(entry).value or b"")
            if other.epoch != self._place.epoch:
                raise NamesakeError(
                    f"the balancer at {other.address}, port {other.port}, has the name of this"
                    f" one, {self._name!r}: each needs its own"
                )
        raise EtcdError(f"{gateway.endpoint}: this balancer's entry is gone")

    async def _flush(self, gateway: Gateway) -> None:
        batch = list(self._dirty)[:_BATCH]
        values = {key: self.wanted.get(key) for key in batch}
        steps = [
            self._step(key, value)
            for key, value in values.items()
            if value != self._written.get(key)
        ]
        for key in batch:
            del self._dirty[key]
        if not steps:
            return
        await self._write(gateway, steps)
        for key, value in values.items():
            if value is None:
                self._written.pop(key, None)
            else:
                self._written[key] = value

    def _step(self, key: str, value: bytes | None) -> dict[str, Any]:
        at = {"key": encode(self._layout.record(self._name, key))}
        if value is None:
            return {"request_delete_range": at}
        return {"request_put": at | {"value": encode(value)}}

    def _still_mine(self) -> list[dict[str, Any]]:
        """Return conditions: nothing is written by one whose lease has ended, or over another."""
        both = (
            (self._layout.member(self._name), self._place.pack()),
            (self._layout.alive(self._name), self._epoch),
        )
        return [
            {"key": encode(key), "target": "VALUE", "result": "EQUAL", "value": encode(value)}
            for key, value in both
        ]
