# SPDX-License-Identifier: Apache-2.0
"""Which node a full registry may forget for a new one."""

from __future__ import annotations

from collections.abc import Iterable

from galelb.health.machine import NodeMachine
from galelb.model import NodeState

__all__ = ["longest_down"]


def longest_down(machines: Iterable[NodeMachine], now: float, least_s: float) -> NodeMachine | None:
    """Return the node that has been down longest, if for `least_s` and nobody cares for it."""
    candidates = [
        machine
        for machine in machines
        if machine.state is NodeState.DOWN
        and not machine.voices
        and not machine.node.static
        and not machine.operator_draining
        and machine.operator_weight is None
        and not machine.agreed.routable
        and machine.since + least_s <= now
    ]
    return min(candidates, key=lambda machine: machine.since, default=None)
