# SPDX-License-Identifier: Apache-2.0
"""Shares flows with the other balancers of a group: l4_nat's galelb.flowshare.FlowShare."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from galelb_plugins.l4_nat.batch import Batch, Records, ServiceName, decode, encode
from galelb_plugins.l4_nat.codec import FOR_EVER, lease_to_leaf
from galelb_plugins.l4_nat.columns import Places, Words, read_places
from galelb_plugins.l4_nat.importer import ADDED, BUSY, FLOW_TYPE, KNOWN, UPDATED, Importer
from galelb_plugins.l4_nat.layout import FAMILIES
from galelb_plugins.l4_nat.news import News
from galelb_plugins.l4_nat.options import L4NatOptions
from galelb_plugins.l4_nat.planner import Planner
from galelb_plugins.l4_nat.sweep import current_tick
from galelb_plugins.l4_nat.told import Told, make_timeouts
from galelb_plugins.l4_nat.waiting import Waiting

from galelb.flowshare import Accepted, SourceAddress
from galelb.forwarder import DataPath, HostView
from galelb.model import Metric, Service

__all__ = ["NatShare"]

RETRY_S = 1.0
"""How often flows that wait are tried again, besides after each plan."""
_NANOSECONDS = 1_000_000_000
_LAST_AGE = (1 << 15) - 1
_IDS = 1 << 16

T = TypeVar("T")
Numbers = npt.NDArray[np.int64]


class NatShare:
    """The flows of one generation of programs; see FlowShare. Its methods may be called at once."""

    def __init__(
        self,
        options: L4NatOptions,
        planner: Planner,
        datapath: DataPath,
        host: HostView,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._planner = planner
        self._datapath = datapath
        self._clock = clock
        self._forget_s = options.port_quarantine
        self._tick_us = (1_000_000 << host.tick_shift) // host.hz
        self._importer = Importer(datapath)
        timeouts = make_timeouts(options, host)
        self._told = {
            version: Told(datapath.maps, version, host.flow_seed, timeouts)
            for version in FAMILIES
            if f"l4_nat_flows{version}" in datapath.maps
        }
        self._news = News(datapath.maps["l4_nat_news"])
        self._lock = threading.Lock()
        self._waiting = Waiting()
        self._places: Places | None = None
        self._version = -1
        self._looked = clock()
        self._tried = self._looked - RETRY_S
        self.refused = 0
        """Flows of peers that were refused, ever."""

    def reads(self, datapath: DataPath) -> bool:
        """Whether these are the flows of this data path."""
        return self._datapath is datapath

    @property
    def waiting(self) -> int:
        """Flows of peers that wait for their node or service."""
        return self._waiting.flows

    @property
    def lost(self) -> int:
        """Flows of peers that waited in vain, ever."""
        return self._waiting.lost

    def own(self) -> Sequence[SourceAddress]:
        """Return the pool of new flows, as of the last plan; none in dnat."""
        return self._planner.own

    def make_room(self, addresses: Sequence[SourceAddress]) -> None:
        """Have the next plans make slices for these addresses, too."""
        self._planner.guests = tuple(addresses)

    def permit(self, seconds: float | None, *, whole: bool) -> None:
        """Write until when flows may be made."""
        until = FOR_EVER
        if seconds is not None:
            until = time.monotonic_ns() + int(seconds * _NANOSECONDS) if seconds > 0 else 0
        self._planner.leased = True
        self._datapath.maps["l4_nat_lease"].set(0, lease_to_leaf(until, whole=whole))

    def changes(self) -> list[bytes]:
        """Return batches of what is new; after too long a pause, of everything."""
        with self._lock:
            self._retry()
            now, before = self._clock(), self._looked
            self._looked = now
            if now - before > self._forget_s:  # an entry may have become another flow's unseen
                for told in self._told.values():
                    told.forget()
            places, tick = self._read_places(), current_tick(self._datapath)
            return [
                data
                for told in self._told.values()
                for data in self._encode(told.version, places, told.changes(places, tick))
            ]

    @property
    def stirred(self) -> bool:
        """Whether flows were made since the last news."""
        return self._news.some

    def news(self) -> list[bytes]:
        """Return batches of flows that were made since the last call."""
        with self._lock:
            found = self._news.take()
            if not found:
                return []
            places, tick = self._read_places(), current_tick(self._datapath)
            return [
                data
                for version, hashes in found.items()
                if version in self._told
                for data in self._encode(
                    version, places, self._told[version].news(hashes, places, tick)
                )
            ]

    def everything(self) -> Iterator[bytes]:
        """Iterate over batches of all flows; reads a part of a table for each few of them."""
        with self._lock:
            places = self._read_places()
        for told in self._told.values():
            tick = current_tick(self._datapath)
            yield from self._encode(told.version, places, told.everything(places, tick))

    def accept(self, batch: bytes) -> Accepted:
        """Take in a batch of a peer. Raises RemoteProtocolError, BpfError."""
        flows = decode(batch)
        with self._lock:
            self._retry()
            return self._accept(flows, self._clock())

    def metrics(self) -> list[Metric]:
        """Return what became of peers' flows."""
        return [
            Metric(name=f"galelb_l4_nat_{name}", help=text, value=value, kind=kind)
            for name, text, value, kind in (
                (
                    "peer_flows_waiting",
                    "Flows of peers that wait for a node.",
                    self.waiting,
                    "gauge",
                ),
                ("peer_flows_lost_total", "Flows that waited in vain.", self.lost, "counter"),
                ("peer_flows_refused_total", "Flows without room here.", self.refused, "counter"),
                (
                    "peer_slices_missing",
                    "Combinations of a node, a port and a peer's address that have no room here.",
                    self._planner.unhoused,
                    "gauge",
                ),
            )
        ]

    def _services(self) -> dict[int, Service]:
        view = self._planner.view
        return dict(view.services) if view is not None else {}

    def _encode(self, version: int, places: Places, parts: Iterable[Records]) -> Iterator[bytes]:
        """Name flows by what they are; those of a service or node that is gone are left out."""
        known = self._services()
        for records in parts:
            service, services = _named(records["service"], known)
            part, slices = _named(records["slice"], places.by_id)
            good = (service >= 0) & (part >= 0)
            records["service"], records["slice"] = service, part
            yield from encode(
                Batch(
                    version=version,
                    tick_us=self._tick_us,
                    services=[_name(one) for one in services],
                    slices=slices,
                    records=records[good],
                )
            )

    def _read_places(self, *, anew: bool = False) -> Places:
        """Return the slices that programs know. Who meets an unknown one reads them `anew`."""
        if anew or self._places is None or self._version != self._planner.version:
            self._version = self._planner.version
            self._places = read_places(self._datapath.maps["l4_nat_slices"])
        return self._places

    def _retry(self) -> None:
        """Try again what waits, when something may have become known."""
        now = self._clock()
        if not self._waiting.flows:
            return
        if self._version == self._planner.version and now - self._tried < RETRY_S:
            return
        self._tried = now
        for came, batch in self._waiting.take(now):
            self._accept(batch, came)

    def _accept(self, batch: Batch, came: float) -> Accepted:
        # No slice goes, or becomes another one, between its number's being read and its use.
        with self._planner.lock:
            flows, ready = self._locate(batch, came)
            results = self._importer.take_in(flows)
        waits = ~ready
        waits[ready] = results == BUSY
        self._waiting.add(batch.part(waits), came)
        taken = np.isin(results, (ADDED, UPDATED, KNOWN))
        self._heard(batch.version, flows[taken])
        counts = {name: int(np.count_nonzero(results == code)) for name, code in _COUNTED.items()}
        waiting = int(np.count_nonzero(waits))
        refused = len(batch.records) - waiting - sum(counts.values())
        self.refused += refused
        return Accepted(**counts, waiting=waiting, refused=refused)

    def _locate(self, batch: Batch, came: float) -> tuple[Records, npt.NDArray[np.bool_]]:
        """Return the flows whose service and slice are known here, and which those are."""
        services = {_name(one): number for number, one in self._services().items()}
        places = self._read_places()
        if any(key not in places.by_key for key in batch.slices):
            places = self._read_places(anew=True)
        service = np.array([services.get(name, 0) for name in batch.services], np.int64)
        slices = [places.by_key.get(key) for key in batch.slices]
        part = np.array([one.id if one is not None else 0 for one in slices], np.int64)
        records = batch.records
        if not len(records):
            return np.zeros(0, FLOW_TYPE), np.zeros(0, np.bool_)
        ready = (service[records["service"]] > 0) & (part[records["slice"]] > 0)
        ready &= batch.version in self._told
        some = records[ready]
        flows = np.zeros(len(some), FLOW_TYPE)
        for name in ("client_port", "port", "state", "back_state", "fresh"):
            flows[name] = some[name]
        flows["client"][:, : some["client"].shape[1]] = some["client"]
        flows["family"] = batch.version
        flows["service"] = service[some["service"]]
        flows["slice"] = part[some["slice"]]
        waited = max(0.0, self._clock() - came) * 1_000_000 / self._tick_us
        for name in ("age", "back_age"):
            ages = some[name] * (batch.tick_us / self._tick_us) + waited
            flows[name] = np.minimum(ages, _LAST_AGE)
        return flows, ready

    def _heard(self, version: int, flows: Records) -> None:
        """Note what the sender knows, so that it is not told of it."""
        if not len(flows):
            return
        tick = current_tick(self._datapath)
        client = flows["client"].astype(np.uint64)
        last = flows["client_port"].astype(np.uint64) << np.uint64(16)
        last |= flows["service"].astype(np.uint64)
        half = np.uint64(32)
        if version == 4:
            keys = (client[:, 0] << half | last)[:, None]
        else:
            high, low = (client[:, n] | client[:, n + 1] << half for n in (0, 2))
            keys = np.stack([high, low, last], axis=1)
        way = flows["slice"].astype(np.uint64) << np.uint64(48)
        way |= flows["port"].astype(np.uint64) << half
        self._told[version].heard(
            keys,
            way | _side(flows["state"], flows["age"], tick),
            way | _side(flows["back_state"], flows["back_age"], tick),
        )


_COUNTED = {"added": ADDED, "updated": UPDATED, "known": KNOWN}


def _name(service: Service) -> ServiceName:
    return ServiceName(service.vip, service.port, service.vlan, service.protocol)


def _named(numbers: npt.NDArray[np.integer], known: Mapping[int, T]) -> tuple[Numbers, list[T]]:
    """Return what these numbers name, and for each number the place of that; -1 = nothing."""
    used, which = np.unique(numbers, return_inverse=True)
    names = [known.get(number) for number in used.tolist()]
    found = [one for one in names if one is not None]
    there = np.array([one is not None for one in names], np.bool_)
    places = np.where(there, np.cumsum(there) - 1, -1)
    return places[which], found


def _side(states: npt.NDArray[np.uint8], ages: npt.NDArray[np.uint16], tick: int) -> Words:
    """Return the lower half of words."""
    at = (tick - ages.astype(np.int64)) % _IDS
    return states.astype(np.uint64) << np.uint64(16) | at.astype(np.uint64)
