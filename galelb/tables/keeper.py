# SPDX-License-Identifier: Apache-2.0
"""Keeps every service's lookup table built and lying in gale_slots."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

import attrs
import structlog
import trio

from galelb.errors import GaleError
from galelb.metrics import Histogram
from galelb.model import Service
from galelb.tables import SlotSpace, TableSpec, digest, moved, pack

if TYPE_CHECKING:
    from galelb.plugins import Plugins

__all__ = ["BuiltTable", "Slots", "TableChanges", "TableKeeper", "TableSettings"]

log = structlog.get_logger("galelb.tables")

_ELEMENT = 8
"""Bytes of an element of gale_slots."""
_RETRY_S = 0.1
_RETRIES = 50


class Slots(Protocol):
    """The map gale_slots, of which only what is being written is mapped."""

    max_entries: int

    def mapped(self, first: int, count: int) -> AbstractContextManager[memoryview]:
        """Map `count` elements of 8 bytes from `first`. Raises MapError."""


@attrs.frozen(kw_only=True)
class TableSettings:
    """What all balancers of a group must share to get the same tables."""

    size: int
    seed: int
    schedulers: Mapping[str, str] = attrs.Factory(dict)
    """What tells each scheduler's tables from others: its name and options; just its name when
    it is not in here."""

    def spec(self, scheduler: str, nodes: Sequence[tuple[str, float]]) -> TableSpec:
        """Return what decides the table of these nodes."""
        described = self.schedulers.get(scheduler, scheduler)
        return TableSpec(nodes=nodes, size=self.size, seed=self.seed, scheduler=described)


@attrs.frozen(kw_only=True, eq=False)
class BuiltTable:
    """A table that lies in gale_slots."""

    spec: TableSpec
    first: int
    digest: str
    slots: tuple[str, ...]
    """Address that each slot names."""


@attrs.define
class TableChanges:
    """How often a service got another table, and the share of slots that moved the last time."""

    count: int = 0
    moved: float = 0.0


class TableKeeper:
    """Builds tables off the trio thread, shares equal ones, and replaces them atomically.

    A new table is written to a region that no program reads; only then does the caller point
    the service at it, and `release_replaced` frees the old region after a grace time.
    """

    def __init__(self, plugins: Plugins, settings: TableSettings) -> None:
        self._plugins = plugins
        self.settings = settings
        """Another `size` or `seed` takes a restart; other `schedulers` count from the next plan."""
        self._slots: Slots | None = None
        self._space = SlotSpace(0)
        self._built: dict[str, BuiltTable] = {}
        self._current: dict[int, BuiltTable] = {}
        self._former: dict[int, BuiltTable] = {}
        """Before `use`; only to tell what moves from there."""
        self._adopted: list[str] = []
        self._replaced: list[str] = []
        self.changes: dict[str, TableChanges] = {}
        """By name of the service."""
        self.build_times: dict[str, Histogram] = {}
        """By scheduler."""
        self._shares: dict[tuple[str, str], float] = {}
        """What moved from one table to another, until this plan is done."""
        self._specs: dict[tuple[str, int], tuple[Sequence[tuple[str, float]], TableSpec]] = {}
        """By scheduler and identity of the nodes, which are held so that it stays theirs."""

    def use(self, slots: Slots, adopted: Mapping[str, int]) -> None:
        """Work on this gale_slots from now on; `adopted` are regions that hold live tables."""
        self._slots = slots
        self._space = SlotSpace(slots.max_entries)
        self._built.clear()
        self._former |= self._current
        self._current.clear()
        self._adopted.clear()
        self._replaced.clear()
        for key, first in adopted.items():
            try:
                self._space.adopt(key, first, self.settings.size)
            except GaleError as error:
                log.warning("table_not_adopted", reason=str(error))
                continue
            self._adopted.append(key)

    def regions(self) -> dict[str, int]:
        """Return the first element of every live table by its spec's digest, to be persisted."""
        return {table.spec.digest: table.first for table in self._current.values()}

    def table(self, service_id: int) -> BuiltTable | None:
        """Return the table of a service; None while it has no routable node."""
        return self._current.get(service_id)

    async def update(
        self,
        service_id: int,
        service: Service,
        nodes: Sequence[tuple[str, float]],
        index_of: Mapping[str, int],
    ) -> bool:
        """Bring a service's table up to date; return whether it changed.

        Raises GaleError when gale_slots stays full.
        """
        old = self._current.get(service_id)
        spec = self._spec(service, nodes)
        if old is not None and old.spec.digest == spec.digest:
            return False
        before = old or self._former.get(service_id)
        if spec.nodes:
            self._current[service_id] = await self._place(service, spec, index_of)
        elif old is not None:
            del self._current[service_id]
        elif before is None:
            return False
        self._former.pop(service_id, None)
        if old is not None:
            self._replaced.append(old.spec.digest)
        await self._tell(service, before, self._current.get(service_id))
        return True

    def _spec(self, service: Service, nodes: Sequence[tuple[str, float]]) -> TableSpec:
        """Return what decides a service's table; hundreds of services may give the same nodes.

        A node without a slot must not cost the others theirs.
        """
        if len(nodes) > self.settings.size:
            log.error(
                "table_too_small",
                service=service.name,
                nodes=len(nodes),
                table_size=self.settings.size,
            )
        key = (service.scheduler, id(nodes))
        if key not in self._specs:
            fitting = sorted(nodes)[: self.settings.size]
            self._specs[key] = nodes, self.settings.spec(service.scheduler, fitting)
        return self._specs[key][1]

    @property
    def crowded(self) -> bool:
        """Whether the next table may find no room before replaced ones are released."""
        return bool(self._replaced) and not self._space.room_for(self.settings.size)

    def drop(self, service_id: int) -> None:
        """Forget the table of a service that is no longer served."""
        old = self._current.pop(service_id, None)
        if old is not None:
            self._replaced.append(old.spec.digest)

    def release_replaced(self, now: float) -> None:
        """Free what `update` replaced; call it once no service points there any more."""
        for key in self._replaced:
            self._space.release(key, now)
        self._replaced.clear()

    def plan_done(self, now: float) -> None:
        """Free everything that no service has any more, adopted tables too."""
        self._replaced += self._adopted
        self._adopted.clear()
        self._former.clear()
        self.release_replaced(now)
        self._shares.clear()
        self._specs.clear()
        live = {table.spec.digest for table in self._current.values()}
        self._built = {key: table for key, table in self._built.items() if key in live}

    async def _place(
        self, service: Service, spec: TableSpec, index_of: Mapping[str, int]
    ) -> BuiltTable:
        first, fresh = await self._acquire(spec)
        if not fresh and spec.digest in self._built:
            return self._built[spec.digest]
        began = time.perf_counter()
        try:
            built, content = await trio.to_thread.run_sync(
                self._build, service, spec, index_of, first
            )
        except BaseException:
            self._space.release(spec.digest, trio.current_time(), written=not fresh)
            raise
        times = self.build_times.setdefault(service.scheduler, Histogram())
        times.observe(time.perf_counter() - began)
        self._write(first, content)
        self._built[spec.digest] = built
        return built

    def _build(
        self, service: Service, spec: TableSpec, index_of: Mapping[str, int], first: int
    ) -> tuple[BuiltTable, bytes]:
        """Return a table and its bytes; takes tens of milliseconds, so use a worker thread."""
        addresses = spec.addresses
        slots = self._plugins.build_table(service, spec.nodes, spec.size, spec.seed)
        built = BuiltTable(
            spec=spec,
            first=first,
            digest=digest(slots, addresses),
            slots=tuple([addresses[position] for position in slots]),
        )
        return built, pack(slots, [index_of[address] for address in addresses])

    async def _acquire(self, spec: TableSpec) -> tuple[int, bool]:
        """Wait for room: replaced tables are freed after their grace time."""
        for attempt in range(_RETRIES):
            try:
                region, fresh = self._space.acquire(spec.digest, spec.size, trio.current_time())
            except GaleError:
                if attempt == _RETRIES - 1:
                    raise
                await trio.sleep(_RETRY_S)
            else:
                return region.first, fresh
        raise AssertionError

    def _write(self, first: int, content: bytes) -> None:
        """Write a table unless it lies there already, as an earlier run may have left it.

        What was adopted is not trusted blindly: the earlier run may have died, or found the disk
        full, before it could say that it had put another table there.
        """
        if self._slots is None:
            raise GaleError("lookup tables have no memory yet")
        with self._slots.mapped(first, len(content) // _ELEMENT) as place:
            if place != content:
                place[:] = content

    async def _tell(self, service: Service, old: BuiltTable | None, new: BuiltTable | None) -> None:
        key = (old.digest if old else "", new.digest if new else "")
        if key[0] == key[1]:
            return  # the same table, which went over to other maps
        if key not in self._shares:
            self._shares[key] = await trio.to_thread.run_sync(
                moved, old.slots if old else (), new.slots if new else ()
            )
        share = self._shares[key]
        changes = self.changes.setdefault(service.name, TableChanges())
        changes.count, changes.moved = changes.count + 1, share
        self._plugins.table_changed(service, new.digest if new else "", share)
        log.info(
            "table_changed",
            service=service.name,
            nodes=len(new.spec.nodes) if new else 0,
            digest=new.digest if new else "",
            moved=round(share, 4),
        )
