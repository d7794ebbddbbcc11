# SPDX-License-Identifier: Apache-2.0
"""Writes down what happens to nodes, tables, peers, interfaces and the configuration."""

from __future__ import annotations

import importlib.metadata
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from galelb.api.events import EventLog
from galelb.health.weights import FULL
from galelb.hooks import hookimpl
from galelb.model import IPAddress, NodeRecord, Peer, Service, XdpMode

if TYPE_CHECKING:
    from galelb.datapath.carrying import Carried

__all__ = ["Chronicle"]

LONGEST_REASON = 4000
"""Characters; a file may have thousands of problems, and events are kept."""


class Chronicle:
    """Told by the same hooks as plugins are; `knows` says whether there still is such a node."""

    def __init__(self, knows: Callable[[IPAddress], bool]) -> None:
        self.events = EventLog()
        self.reload_succeeded = True
        """Whether the configuration that was given last is in force."""
        self.configured_at = time.time()
        """Since when the configuration is in force."""
        self.carried: Counter[tuple[str, str]] = Counter()
        """Flows whose maps changed their shape, by forwarder and by what became of them."""
        self._knows = knows

    @hookimpl
    def galelb_node_changed(self, old: NodeRecord | None, new: NodeRecord) -> None:
        """Note changes that matter to people, the most important one of each node."""
        address = new.node.address
        kind = _kind(old, new) if self._knows(address) else "node_left"
        if kind:
            self.events.add(kind, node=str(address), **_facts(old, new))

    @hookimpl
    def galelb_table_changed(self, service: Service, digest: str, moved: float) -> None:
        """Note another lookup table."""
        self.events.add(
            "table_changed", service=service.name, digest=digest, moved_share=round(moved, 4)
        )

    @hookimpl
    def galelb_peer_changed(self, old: Peer | None, new: Peer) -> None:
        """Note another balancer that came, went or changed."""
        del old
        self.events.add("peer_changed", peer=str(new.address), port=new.port, alive=new.alive)

    @hookimpl
    def galelb_attached(self, interface: str, mode: XdpMode) -> None:
        """Note an interface with a program."""
        self.events.add("attached", interface=interface, mode=mode.value)

    @hookimpl
    def galelb_detached(self, interface: str) -> None:
        """Note an interface without one."""
        self.events.add("detached", interface=interface)

    @hookimpl
    def galelb_stopping(self) -> None:
        """Note the end, which ends all streams."""
        self.events.add("stopping")
        self.events.close()

    def flows_carried(self, carried: Carried, lost: str) -> None:
        """Note flows that went to maps of another shape; `lost` says why they could not."""
        facts = {"added": carried.added, "refused": carried.refused, "waiting": carried.waiting}
        for result, count in facts.items():
            self.carried[carried.forwarder, result] += count
        if lost:
            self.carried[carried.forwarder, "failed"] += 1
            self.events.add("flows_lost", forwarder=carried.forwarder, reason=lost)
        else:
            self.events.add("flows_carried", forwarder=carried.forwarder, **dict[str, Any](facts))

    def started(self, *, adopted: bool) -> None:
        """Note that the balancer forwards."""
        version = importlib.metadata.version("galelb")
        self.events.add("started", version=version, adopted=adopted)

    def reloaded(self, digest: str) -> None:
        """Note another configuration in force."""
        self.reload_succeeded, self.configured_at = True, time.time()
        self.events.add("config_reloaded", config_digest=digest)

    def not_reloaded(self, reason: str) -> None:
        """Note that a configuration cannot be used; the one before stays in force."""
        self.reload_succeeded = False
        self.events.add("config_refused", reason=reason[:LONGEST_REASON])


def _kind(old: NodeRecord | None, new: NodeRecord) -> str | None:
    if old is None:
        return "node_joined"
    if old.state is not new.state:
        return "node_state"
    if old.draining is not new.draining:
        return "node_draining"
    if old.weight != new.weight or old.load_share != new.load_share or _started(old, new):
        return "node_weight"
    if old.neighbour != new.neighbour:
        return "node_neighbour"
    return None


def _started(old: NodeRecord, new: NodeRecord) -> bool:
    """Whether a slow start is over; all of its steps would drown everything else."""
    return old.start_share < FULL == new.start_share


def _facts(old: NodeRecord | None, new: NodeRecord) -> dict[str, Any]:
    return {
        "name": new.node.name,
        "old_state": None if old is None else old.state.value,
        "state": new.state.value,
        "reason": new.reason,
        "draining": new.draining,
        "weight": round(new.effective_weight, 3),
        "neighbour": new.neighbour,
    }
