# SPDX-License-Identifier: Apache-2.0
"""A plan as a JSON object, and as tables for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
from rich.console import Group, RenderableType
from rich.text import Text

from galelb.commands.text import BAD, FAINT, GOOD, WARN, columns, plural, styled
from galelb.plan.values import NodeChange, Plan, ServiceChange

__all__ = ["as_json", "plan_view"]

_STYLES = {"added": GOOD, "removed": BAD, "changed": WARN, "same": FAINT}
_MOST = 50
"""Nodes and services that are told of; a program reads all of them."""


def as_json(plan: Plan, config: str, against: str) -> dict[str, Any]:
    """Return the plan as `galelb plan --json` prints it."""
    return {
        "config": config,
        "against": against,
        "changes_nothing": plan.nothing,
        "reload_possible": not plan.restart,
        "restart_reasons": list(plan.restart),
        "recompiles": plan.recompiles,
        "settings": [attrs.asdict(one) for one in plan.settings],
        "nodes": [attrs.asdict(one) for one in plan.nodes],
        "services": [_service_json(one) for one in plan.services],
        "notes": list(plan.notes),
    }


def _service_json(one: ServiceChange) -> dict[str, Any]:
    values = attrs.asdict(one)
    del values["stateful"]
    moved = None if one.moved is None else round(one.moved, 6)
    return {**values, "moved": moved, "moves": "new_flows" if one.stateful else "all_flows"}


def plan_view(plan: Plan, config: str, against: str) -> RenderableType:
    """Return the plan for people."""
    parts: list[RenderableType] = [styled(f"{config} against {against}")]
    if plan.nothing:
        parts += [Text(), Text("It changes nothing.", GOOD)]
    else:
        parts += [*_how(plan), *_settings(plan), *_nodes(plan), *_services(plan)]
    if plan.notes:
        parts += [Text(), *(styled(f"Note: {note}", WARN) for note in plan.notes)]
    return Group(*parts)


def _how(plan: Plan) -> Iterator[Text]:
    """Say how it comes into force."""
    yield Text()
    for reason in plan.restart:
        yield styled(f"A reload would refuse it: {reason}.", BAD)
    if plan.recompiles is None:
        return
    if plan.recompiles:
        yield Text("New programs are compiled and replace the attached ones; maps and flows stay.")
    else:
        yield Text("The attached programs stay; only maps are written.")


def _settings(plan: Plan) -> Iterator[RenderableType]:
    if not plan.settings:
        return
    yield Text()
    table = columns("SETTING", "NOW", "THEN")
    for one in plan.settings:
        table.add_row(styled(one.key), styled(one.before or "-"), styled(one.after or "-"))
    yield table


def _nodes(plan: Plan) -> Iterator[RenderableType]:
    changed = [one for one in plan.nodes if one.change != "same"]
    same = len(plan.nodes) - len(changed)
    yield Text()
    if changed:
        table = columns("NODE", "ADDRESS", "CHANGE", ">WEIGHT NOW", ">THEN", "NOTE")
        for one in changed[:_MOST]:
            table.add_row(*_node_row(one))
        yield table
        yield from _more(changed, "node")
    if same or not changed:
        yield Text(f"{plural(same, 'node')} as before", FAINT)


def _node_row(one: NodeChange) -> Iterator[Text]:
    yield styled(one.name or "-")
    yield styled(one.address)
    yield Text(one.change, _STYLES[one.change])
    yield _weight(one.weight_before)
    yield _weight(one.weight_after)
    yield styled("; ".join(one.details))


def _weight(weight: float | None) -> Text:
    return Text("-", FAINT) if weight is None else Text(f"{weight:.4g}")


def _services(plan: Plan) -> Iterator[RenderableType]:
    table = columns("SERVICE", "CHANGE", "FORWARDER", ">NODES NOW", ">THEN", ">MOVED", "NOTE")
    changed = [one for one in plan.services if one.change != "same"]
    for one in changed[:_MOST]:
        table.add_row(*_service_row(one))
    same = len(plan.services) - len(changed)
    yield Text()
    if changed:
        yield table
        yield from _more(changed, "service")
    if same or not changed:
        yield Text(f"{plural(same, 'service')} as before", FAINT)


def _service_row(one: ServiceChange) -> Iterator[Text]:
    yield styled(one.name)
    yield Text(one.change, _STYLES[one.change])
    yield styled(one.forwarder)
    yield Text("-" if one.nodes_before is None else str(one.nodes_before))
    yield Text("-" if one.nodes_after is None else str(one.nodes_after))
    yield Text("-" if one.moved is None else f"{one.moved:.1%}")
    yield styled("; ".join(_service_notes(one)))


def _service_notes(one: ServiceChange) -> Iterator[str]:
    if one.moved:
        yield (
            "of new connections; open ones keep their node"
            if one.stateful
            else "of all flows, open connections too"
        )
    if one.nodes_after == 0 and one.nodes_before:
        yield "no node is left"
    yield from one.details


def _more(changed: list[Any], what: str) -> Iterator[Text]:
    if len(changed) > _MOST:
        yield Text(f"and {plural(len(changed) - _MOST, f'more {what}')}; --json has all", FAINT)
