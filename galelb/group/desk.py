# SPDX-License-Identifier: Apache-2.0
"""What the group changes about this balancer's nodes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address

import trio

from galelb.control.nodes import NodeDesk
from galelb.errors import GaleError
from galelb.model import IPAddress, Node, NodeRecord

__all__ = ["GroupDesk"]


class GroupDesk:
    """The part of a `NodeDesk` that the group works with; spreads each change at once."""

    def __init__(self, desk: NodeDesk) -> None:
        self._desk = desk
        self._health = desk.health
        self._addresses: dict[str, IPAddress | None] = {}

    def records(self) -> Sequence[NodeRecord]:
        """Return all nodes."""
        return self._health.records()

    def record_of(self, text: str) -> NodeRecord | None:
        """Return the node with the address in a peer's record; None = there is none."""
        address = self._address(text)
        return None if address is None else self._health.get(address)

    def knows(self, address: IPAddress) -> bool:
        """Whether there is such a node."""
        return self._health.get(address) is not None

    def heard(self, address: IPAddress) -> bool:
        """Whether this balancer has a view of its own of a node."""
        return self._health.heard(address)

    def unheard(self) -> set[IPAddress]:
        """Return the nodes that only peers have told of."""
        found = (record.node.address for record in self._health.records())
        return {address for address in found if not self._health.heard(address)}

    def agree(self, verdicts: Mapping[str, bool], *, adopting: bool) -> None:
        """Take what the group makes of nodes, by address; `adopting`: see `NodeHealth.agree`."""
        by_address = {
            address: word
            for text, word in verdicts.items()
            if (address := self._address(text)) is not None
        }
        self._health.agree(by_address, trio.current_time(), adopting=adopting)
        self._desk.settle()

    def add_strangers(self, nodes: Iterable[Node]) -> None:
        """Add nodes that only peers hear."""
        for node in nodes:
            self._health.add_stranger(node, trio.current_time())
        self._desk.settle()

    def forget(self, address: IPAddress) -> None:
        """Forget a node that nobody hears any more."""
        with contextlib.suppress(GaleError):
            self._health.remove(address, trio.current_time())
        self._desk.settle()

    def decide(self, address: IPAddress, *, draining: bool, weight: int | None) -> None:
        """Do what an operator wants who was with another balancer; nothing for unknown nodes."""
        known = self._health.get(address)
        if known is None:
            return
        if known.operator_draining is not draining:
            self._health.drain(address, draining, trio.current_time())
        if known.operator_weight != weight:
            self._health.set_weight(address, weight, trio.current_time())
        self._desk.settle()

    def _address(self, text: str) -> IPAddress | None:
        """Read an address; thousands are read again and again."""
        if text not in self._addresses:
            if len(self._addresses) > 1 << 14:
                self._addresses.clear()
            try:
                self._addresses[text] = ip_address(text)
            except ValueError:
                self._addresses[text] = None
        return self._addresses[text]
