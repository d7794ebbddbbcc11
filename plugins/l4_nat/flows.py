# SPDX-License-Identifier: Apache-2.0
"""Lists the tracked flows: forward entries joined with what the node's side knows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from galelb_plugins.l4_nat.codec import slice_from_leaf, slice_key_from_struct
from galelb_plugins.l4_nat.entries import FIN, RST, SEEN, TCP, Entry, EntryTable, any_port
from galelb_plugins.l4_nat.layout import FAMILIES
from galelb_plugins.l4_nat.slices import Slice, SliceKey
from galelb_plugins.l4_nat.sweep import current_tick

from galelb.forwarder import BpfMap, DataPath, ForwardingView
from galelb.model import Flow, IPAddress

__all__ = ["FlowReader", "IdleSlices", "state_name"]

AGES = 1 << 16


def state_name(forward: int, back: int) -> str:
    """Return what to call a flow by both sides' state bits."""
    if not forward & TCP:
        return "replied" if back & SEEN else "unreplied"
    if (forward | back) & RST:
        return "reset"
    if forward & back & FIN:
        return "closed"
    if (forward | back) & FIN:
        return "closing"
    if not back & SEEN:
        return "syn_sent"
    return "established" if forward & SEEN else "syn_received"


class IdleSlices:
    """Says of slices of one family whether no flow and no quarantined port needs them.

    It maps a table of flows when it is first asked, which takes a millisecond; use one for a
    whole plan.
    """

    def __init__(self, version: int, maps: Mapping[str, BpfMap]) -> None:
        self._version = version
        self._maps = maps
        self._flows: EntryTable | None = None

    def __call__(self, part: Slice) -> bool:
        """Return whether nothing needs a slice; reads the tables, so it blocks."""
        ports = self._maps.get(f"l4_nat_ports{self._version}")
        if part.count and ports is not None:
            return not any_port(ports, self._version, part.base, part.count)
        flows = self._maps.get(f"l4_nat_flows{self._version}")
        if flows is None:
            return True
        if self._flows is None:
            self._flows = EntryTable(flows, self._version)
        return all(entry.first != part.id for _, entry in self._flows.used())


class FlowReader:
    """One reading of the tables; the programs go on changing them meanwhile."""

    def __init__(self, datapath: DataPath, view: ForwardingView) -> None:
        self._maps = datapath.maps
        self._view = view
        self._tick = current_tick(datapath)
        self._slices: dict[int, tuple[SliceKey, Slice]] = {}
        for key, leaf in self._maps["l4_nat_slices"].items():
            part = slice_from_leaf(leaf)
            self._slices[part.id] = slice_key_from_struct(key), part

    def flows(self, limit: int) -> Iterator[Flow]:
        """Iterate over at most `limit` flows."""
        for version in FAMILIES:
            if f"l4_nat_flows{version}" not in self._maps:
                continue
            for flow in self._family(version):
                if limit <= 0:
                    return
                limit -= 1
                yield flow

    def _family(self, version: int) -> Iterator[Flow]:
        back = _Back(self._maps, version)
        forward = EntryTable(self._maps[f"l4_nat_flows{version}"], version)
        for _, entry in forward.used():
            known = self._slices.get(entry.first)
            if known is not None and entry.id in self._view.services:
                yield self._flow(entry, known[0], back.word(entry, known[1]))

    def _flow(self, entry: Entry, key: SliceKey, back: Entry | None) -> Flow:
        service = self._view.services[entry.id]
        idle = (self._tick - entry.age) % AGES
        if back is not None and back.state & SEEN:
            idle = min(idle, (self._tick - back.age) % AGES)
        return Flow(
            service=service.name,
            protocol=service.protocol,
            client=entry.client,
            client_port=entry.client_port,
            node=key.node,
            source=key.source if key.source is not None else entry.client,
            source_port=entry.second,
            state=state_name(entry.state, back.state if back is not None else 0),
            idle_s=self._seconds(idle),
        )

    def _seconds(self, ticks: int) -> float:
        host = self._view.host
        return float(ticks * (1 << host.tick_shift) / host.hz)


class _Back:
    """The node's side of flows: port slots in full_nat, return entries in dnat."""

    def __init__(self, maps: Mapping[str, BpfMap], version: int) -> None:
        ports, returns = f"l4_nat_ports{version}", f"l4_nat_returns{version}"
        self._ports = EntryTable(maps[ports], version) if ports in maps else None
        self._returns: dict[tuple[IPAddress, int, int], Entry] = {}
        if returns in maps:
            for _, entry in EntryTable(maps[returns], version).used():
                self._returns[entry.client, entry.client_port, entry.id] = entry

    def word(self, forward: Entry, part: Slice) -> Entry | None:
        """Return the entry of the node's side, if it belongs to this flow."""
        if self._ports is None:
            return self._returns.get((forward.client, forward.client_port, part.id))
        place = forward.second - part.first_port
        if not 0 <= place < part.count:
            return None
        slot = self._ports.entry(part.base + place)
        if slot is None or (slot.client, slot.client_port) != (forward.client, forward.client_port):
            return None
        return slot
