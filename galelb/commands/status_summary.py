# SPDX-License-Identifier: Apache-2.0
"""What `galelb status` prints for people: whether, on what and how well it forwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from galelb.api.view import UNEXPECTED_REASONS
from galelb.commands.text import (
    BAD,
    FAINT,
    GOOD,
    WARN,
    amount,
    columns,
    duration,
    plain,
    plural,
    size,
    styled,
)

__all__ = ["status_view"]

Json = Mapping[str, Any]


def status_view(status: Json) -> RenderableType:
    """Return the whole picture; its first line says whether the balancer forwards."""
    parts: list[RenderableType] = [_headline(status), _amounts(status), Text()]
    parts += [_identity(status), _interfaces(status["interfaces"])]
    if status["reasons"]:
        parts += [Text(), _reasons(status["reasons"])]
    if status["notes"]:
        parts += [Text(), *(styled(f"Note: {note}", WARN) for note in status["notes"])]
    return Group(*parts)


def _headline(status: Json) -> Text:
    attached = all(interface["mode"] for interface in status["interfaces"])
    missing = status["services"]["total"] - status["services"]["routable"]
    if attached and missing and status["services"]["routable"]:
        why = status["not_ready_reason"] or f"{plural(missing, 'service')} without a routable node"
        return styled("Forwarding, but not everything: ", f"bold {WARN}").append(plain(why))
    if not status["ready"]:
        return styled("NOT forwarding: ", f"bold {BAD}").append(plain(status["not_ready_reason"]))
    return styled("Forwarding", f"bold {GOOD}")


def _amounts(status: Json) -> Text:
    services, nodes = status["services"], status["nodes"]
    return Text(
        f"{services['routable']} of {plural(services['total'], 'service')} with nodes, "
        f"{nodes['routable']} of {plural(nodes['total'], 'node')} routable, "
        f"{plural(status['flows'], 'flow')}"
    )


def _identity(status: Json) -> Text:
    taken_over = "; took over from an earlier run" if status["adopted"] else ""
    lines = [
        f"galelb {status['version']}, instance {status['instance']}, pid {status['pid']}, "
        f"up {duration(status['uptime_s'])}",
        f"configuration {status['config_digest'][:8] or '-'}, "
        f"plugins {', '.join(status['plugins']) or '-'}{taken_over}",
    ]
    return Text("\n".join(plain(line) for line in lines), FAINT).append("\n")


def _interfaces(interfaces: Sequence[Json]) -> Table:
    table = columns("INTERFACE", "ROLE", "MODE", "NOTE")
    for interface in interfaces:
        mode = interface["mode"]
        style = BAD if mode is None else GOOD if mode == "native" else WARN
        table.add_row(
            styled(interface["name"]),
            styled(interface["role"]),
            Text(plain(mode or "not attached"), style),
            styled(interface["reason"]),
        )
    return table


def _reasons(reasons: Json) -> Table:
    table = columns("REASON", ">PACKETS", ">BYTES")
    for name, count in reasons.items():
        style = BAD if name in UNEXPECTED_REASONS and count["packets"] else ""
        table.add_row(styled(name, style), amount(count["packets"]), size(count["bytes"]))
    return table
