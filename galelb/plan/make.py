# SPDX-License-Identifier: Apache-2.0
"""Puts a plan together from both sides of a change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from galelb.control.reload import fixed_changes
from galelb.durations import format_duration
from galelb.errors import GaleError
from galelb.plan.nodes import node_changes
from galelb.plan.programs import recompiles
from galelb.plan.services import Tables, service_changes, strange_tables
from galelb.plan.settings import setting_changes
from galelb.plan.values import NodeChange, Plan, Side

if TYPE_CHECKING:
    from galelb.plugins import Plugins

__all__ = ["make_plan"]


def make_plan(old: Side, new: Side, plugins: Plugins) -> Plan:
    """Return what the change from `old` to `new` does. Blocks: it builds lookup tables.

    Raises GaleError when a plugin fails.
    """
    before = Tables(old, plugins)
    after = Tables(new, plugins)
    nodes = node_changes(old.nodes, new.nodes)
    notes = [*strange_tables(old, before), *_growing(new, nodes), *_hidden(old)]
    if not nodes:
        notes.append("no node is known on either side, so no share can be told")
    try:
        other_programs: bool | None = recompiles(old, new, plugins)
    except GaleError as error:
        other_programs = None
        notes.append(f"whether it recompiles cannot be told: {error}")
    return Plan(
        settings=setting_changes(old.config, new.config),
        nodes=nodes,
        services=service_changes(old, new, before, after),
        restart=fixed_changes(old.config, new.config),
        recompiles=other_programs,
        notes=notes,
    )


def _growing(new: Side, nodes: list[NodeChange]) -> list[str]:
    """Say that a share is reached in time only."""
    duration = new.config.node_health.slow_start
    if duration and any(not node.weight_before and node.weight_after for node in nodes):
        return [
            f"nodes that come grow to their share over {format_duration(duration)} (slow_start);"
            " shares are those at the end"
        ]
    return []


def _hidden(old: Side) -> list[str]:
    if not old.hidden:
        return []
    return [f"secrets were not compared: {', '.join(old.hidden)}"]
