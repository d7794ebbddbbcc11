# SPDX-License-Identifier: Apache-2.0
"""Writes plans into maps, with the forwarders' help; everything here blocks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from galelb.control.map_writer import MapWriter
from galelb.control.served import Served
from galelb.control.snapshot import Refused, Snapshot
from galelb.flowhash import node_filter
from galelb.forwarder import BpfMap, Forwarder, ForwardingView
from galelb.model import IPAddress
from galelb.packing import address_words
from galelb.plugins.blame import blamed
from galelb.resolve.next_hops import NextHopChanges

__all__ = ["Writing"]


class Writing:
    """Knows what it wrote. Not thread safe: one worker at a time."""

    def __init__(self) -> None:
        self._writer = MapWriter()

    def forget(self) -> None:
        """Write everything again from now on, because the maps may be others."""
        self._writer.forget()

    def nodes(self, served: Served, now: Snapshot, hops: NextHopChanges) -> Refused:
        """Write next hops, nodes and the forwarders' own maps.

        Returns the nodes that forwarders refuse, and why. Raises GaleError.
        """
        maps = served.maps
        for key in hops.index_delete:
            maps["gale_next_hop_index"].delete(key)
        maps["gale_next_hops"].update(hops.next_hops)
        maps["gale_next_hop_index"].update(hops.index_set)
        self._writer.write(maps["gale_nodes"], now.leaves())
        addresses = now.addresses()
        _bring_up_to_date(maps["gale_node_addresses"], addresses)
        self._writer.write(maps["gale_node_filter"], enumerate(node_filter(addresses)))
        return {
            name: self._forwarder(forwarder, served, now.view(served, name))
            for name, forwarder in served.forwarders.items()
        }

    def _forwarder(
        self, forwarder: Forwarder, served: Served, view: ForwardingView
    ) -> dict[IPAddress, str]:
        with blamed(forwarder.name, "plan"):
            for map_name, entries in forwarder.plan(view, served.maps).items():
                self._writer.write(served.maps[map_name], entries)
            reasons = forwarder.unroutable(view)
            return {view.nodes[number].address: reason for number, reason in reasons.items()}

    def services(self, served: Served, leaves: Sequence[tuple[int, Mapping[str, Any]]]) -> None:
        """Point services at their tables. Raises MapError."""
        self._writer.write(served.maps["gale_services"], leaves)

    def release_nodes(
        self, served: Served, addresses: Collection[IPAddress]
    ) -> Collection[IPAddress]:
        """Return those of the nodes that no forwarder's flows hold any more."""
        free = list(addresses)
        for forwarder in served.forwarders.values():
            with blamed(forwarder.name, "release_nodes"):
                released = frozenset(forwarder.release_nodes(free, served.maps))
            free = [address for address in free if address in released]
        return free


def _bring_up_to_date(table: BpfMap, wanted: Mapping[IPAddress, int]) -> None:
    """Make the addresses in the map those wanted; it may hold what an earlier run wrote."""
    new = {address_words(address): number for address, number in wanted.items()}
    held = {tuple(key["addr"]): number for key, number in table.items()}
    for words in held.keys() - new.keys():
        table.delete({"addr": words})
    table.update([({"addr": w}, n) for w, n in new.items() if held.get(w) != n])
