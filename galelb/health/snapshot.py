# SPDX-License-Identifier: Apache-2.0
"""How a node's state is written down, and how the next start adopts it."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from galelb.health.machine import HealthSettings, NodeMachine
from galelb.model import Node, NodeState

__all__ = ["adopt", "describe"]


def describe(machine: NodeMachine, now: float) -> dict[str, Any]:
    """Return a node as JSON-able data; `age_s` is how long it has been in its state."""
    return {
        "address": str(machine.node.address),
        "name": machine.node.name,
        "weight": machine.node.weight,
        "mac": machine.node.mac,
        "state": str(machine.state),
        "age_s": max(0.0, now - machine.since),
        "reason": machine.reason,
        "operator_draining": machine.operator_draining,
        "announced": machine.announced,
        "operator_weight": machine.operator_weight,
        "failures": machine.failures,
        "reports": machine.reports,
        "neighbour": machine.neighbour,
    }


def adopt(entry: Mapping[str, Any], settings: HealthSettings, now: float) -> NodeMachine:
    """Return the machine of a described node; it keeps its state for `checks_timeout`.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: the entry is unusable.
    """
    weight, own = entry["operator_weight"], entry["weight"]
    if not isinstance(own, int) or not isinstance(weight, int | None):
        raise TypeError("weights must be whole numbers")
    state = NodeState(entry["state"])
    return NodeMachine(
        settings=settings,
        node=Node(
            address=ip_address(str(entry["address"])),
            name=str(entry["name"]),
            weight=own,
            mac=_text(entry["mac"]),
        ),
        state=state,
        since=now - max(0.0, float(entry["age_s"])),
        reason=str(entry["reason"]),
        operator_draining=bool(entry["operator_draining"]),
        announced=bool(entry["announced"]),
        operator_weight=weight,
        failures=max(0, int(entry["failures"])),
        neighbour=_text(entry["neighbour"]),
        adopted_until=now + settings.checks_timeout,
        carried=max(0, int(entry["reports"])) if state is NodeState.PROBATION else 0,
    )


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
