# SPDX-License-Identifier: Apache-2.0
"""Whether a slow start would spare a node anything: only if others can carry that meanwhile."""

from __future__ import annotations

from collections.abc import Mapping

from galelb.health.machine import NodeMachine
from galelb.model import IPAddress

__all__ = ["Warmth"]


class Warmth:
    """Looks at all nodes only when nothing is known of before: thousands may return at once."""

    def __init__(self, machines: Mapping[IPAddress, NodeMachine]) -> None:
        self._machines = machines
        self._witness: IPAddress | None = None
        """A node that was warm when last looked at."""
        self._nobody_before = float("-inf")
        """No node is warm earlier; one that drains or asks may be, and then this is past."""

    def forget(self) -> None:
        """Look anew: nodes were adopted, or slow starts take another time."""
        self._nobody_before = float("-inf")

    def beside(self, address: IPAddress, now: float) -> bool:
        """Return whether a node beside this one has had flows for as long as a slow start."""
        if now < self._nobody_before:
            return False
        return self._still(address, now) or self._look(address, now)

    def _still(self, address: IPAddress, now: float) -> bool:
        """Return whether the node that was warm is so still, and another than this one."""
        if self._witness is None or self._witness == address:
            return False
        machine = self._machines.get(self._witness)
        return machine is not None and _serves(machine) and _warm_at(machine) <= now

    def _look(self, address: IPAddress, now: float) -> bool:
        soonest = now + self._machines[address].settings.slow_start
        for other, machine in self._machines.items():
            soonest = min(soonest, _warm_at(machine))
            if other != address and _warm_at(machine) <= now and _serves(machine):
                self._witness = other
                return True
        self._nobody_before = soonest
        return False


def _warm_at(machine: NodeMachine) -> float:
    since = machine.start.since
    return float("inf") if since is None else since + machine.settings.slow_start


def _serves(machine: NodeMachine) -> bool:
    return not (machine.operator_draining or machine.announced)
