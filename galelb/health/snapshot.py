# SPDX-License-Identifier: Apache-2.0
"""How a node's state is written down, and how the next start adopts it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Any

from galelb.health.agreed import Agreed
from galelb.health.machine import HealthSettings, NodeMachine
from galelb.health.weights import FULL
from galelb.model import Node, NodeState

__all__ = ["adopt", "adopt_all", "describe"]

_LONG_S = 1e6


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
        "serving_age_s": _age(machine.start.since, now),
        "start_share": machine.start.share,
        "load_share": machine.load.share,
        "heard": machine.agreed.heard,
        "group": machine.agreed.routable,
    }


def _age(since: float | None, now: float) -> float | None:
    return None if since is None else max(0.0, now - since)


def adopt_all(
    data: Iterable[Mapping[str, Any]], settings: HealthSettings, now: float
) -> tuple[list[NodeMachine], list[str]]:
    """Return the machines of described nodes, and a sentence about each unusable entry."""
    machines: list[NodeMachine] = []
    problems: list[str] = []
    for position, entry in enumerate(data):
        try:
            machines.append(adopt(entry, settings, now))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            problems.append(f"node {position} of the saved state is unusable: {error!r}")
    return machines, problems


def adopt(entry: Mapping[str, Any], settings: HealthSettings, now: float) -> NodeMachine:
    """Return the machine of a described node; it keeps its state for `checks_timeout`.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: the entry is unusable.
    """
    weight, own = entry["operator_weight"], entry["weight"]
    if not isinstance(own, int) or not isinstance(weight, int | None):
        raise TypeError("weights must be whole numbers")
    state = NodeState(entry["state"])
    machine = NodeMachine(
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
    _resume_shares(machine, entry, now)
    machine.agreed = _agreed(entry)
    return machine


def _resume_shares(machine: NodeMachine, entry: Mapping[str, Any], now: float) -> None:
    """Go on with a slow start as if no time had passed; versions before had none."""
    age = entry.get("serving_age_s", _LONG_S)
    since = None if age is None else now - max(0.0, float(age))
    machine.start.resume(since, int(entry.get("start_share", FULL)))
    machine.load.resume(int(entry.get("load_share", FULL)))


def _agreed(entry: Mapping[str, Any]) -> Agreed:
    """Go on with the group's last word until it says something; versions before had none."""
    word = entry.get("group")
    return Agreed(
        routable=None if word is None else bool(word), heard=bool(entry.get("heard", True))
    )


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
