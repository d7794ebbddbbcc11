# SPDX-License-Identifier: Apache-2.0
"""What `galelb nodes` and the like print for people; every text comes from the API's JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from galelb.api.limits import MAX_OFFSET
from galelb.api.view import UNEXPECTED_REASONS
from galelb.commands.event_lines import event_line
from galelb.commands.group_view import peers_view
from galelb.commands.status_summary import status_view
from galelb.commands.text import (
    BAD,
    FAINT,
    GOOD,
    WARN,
    amount,
    columns,
    duration,
    endpoint,
    plain,
    size,
    styled,
    times,
)

__all__ = ["VIEWS", "print_view"]

Json = Mapping[str, Any]

STATE_STYLES = {"routable": GOOD, "probation": WARN, "down": BAD, "blacklisted": BAD}
PIPE_WIDTH = 500
"""Columns when nobody looks: other programs' input must not be folded."""


def print_view(view: RenderableType) -> None:
    """Print to stdout, as wide as the terminal, or without folding when it is not one."""
    console = Console(highlight=False, markup=False, emoji=False)
    if console.is_terminal:
        console.print(view)
        return
    console.width = PIPE_WIDTH
    with console.capture() as capture:
        console.print(view)
    # rich fills every cell with spaces, which only a terminal does not show.
    for line in capture.get().splitlines():
        print(line.rstrip())  # noqa: T201 - this is what the command is for


def nodes_view(nodes: Sequence[Json]) -> RenderableType:
    """Return the nodes with state, weight and traffic."""
    if not nodes:
        return styled(
            "No nodes: none is configured in [[nodes]], and none has reported "
            "(`galelb node` runs on each of them).",
            WARN,
        )
    table = columns("NODE", "ADDRESS", "STATE", ">WEIGHT", ">PACKETS", ">BYTES", "NOTE")
    for node in nodes:
        table.add_row(
            styled(node["name"] or "-"),
            styled(node["address"]),
            _state(node),
            _weight(node),
            amount(node["packets"]),
            size(node["bytes"]),
            _node_note(node),
        )
    return table


def node_view(node: Json) -> RenderableType:
    """Return one node with its history."""
    lines = [Text(event_line(event)) for event in node["history"]]
    history = lines or [Text("Nothing has happened to it since the balancer started.", FAINT)]
    return Group(nodes_view([node]), Text(), *history)


def services_view(services: Sequence[Json]) -> RenderableType:
    """Return the services with their nodes, table and traffic, then what was dropped."""
    if not services:
        return Text("No services.", WARN)
    table = columns(
        "SERVICE",
        "ADDRESS",
        "FORWARDER",
        ">NODES",
        "SCHEDULER",
        "TABLE",
        ">PACKETS",
        ">BYTES",
    )
    for service in services:
        routable = service["routable_nodes"]
        table.add_row(
            styled(service["name"]),
            styled(endpoint(service["vip"], service["port"], service["protocol"])),
            styled(service["forwarder"]),
            Text(str(routable), GOOD if routable else BAD),
            styled(service["scheduler"]),
            styled(service["table_digest"][:8] or "-", FAINT),
            amount(service["packets"]),
            size(service["bytes"]),
        )
    dropped = [_dropped(service) for service in services if service["drops"]]
    return Group(table, Text(), *dropped) if dropped else table


def flows_view(page: Json) -> RenderableType:
    """Return a page of flows and which part of how many it is."""
    flows, total, offset = page["flows"], page["total"], page["offset"]
    if not flows and total:
        return Text(f"No flows from number {offset + 1} on, of {total:,}.")
    if not flows:
        return Text("No flows. Only forwarders that track connections have any: l4_nat does.")
    table = columns("SERVICE", "PROTO", "CLIENT", "NODE", "SOURCE", "STATE", ">IDLE")
    for flow in flows:
        table.add_row(
            styled(flow["service"]),
            styled(flow["protocol"]),
            styled(endpoint(flow["client"], flow["client_port"])),
            styled(flow["node"]),
            styled(endpoint(flow["source"], flow["source_port"])),
            styled(flow["state"]),
            styled(duration(flow["idle_s"])),
        )
    if len(flows) == total:
        return table
    last = offset + len(flows)
    more = f"; next: --offset {last}" if last < total else ""
    if last < total and last > MAX_OFFSET:
        more = "; ask for fewer, or read /v1/flows by cursor"
    return Group(table, Text(f"{offset + 1:,} to {last:,} of {total:,} flows{more}", FAINT))


def drained_view(node: Json) -> RenderableType:
    """Return what drain or undrain has changed."""
    if node["draining"]:
        return styled(f"{_named(node)} drains: no new connections, existing ones go on.")
    weight = f"; it has weight {node['weight']}" if node["weight_reason"] else ""
    return styled(f"{_named(node)} is not draining any more{weight}{_but(node)}.")


def weight_view(node: Json) -> RenderableType:
    """Return what a new weight means."""
    own = " (its own)" if node["operator_weight"] is None else f" (its own: {node['own_weight']})"
    return styled(f"{_named(node)} has weight {node['weight']}{own}{_but(node)}.")


def _named(node: Json) -> str:
    return f"{node['name']} ({node['address']})" if node["name"] else str(node["address"])


def _but(node: Json) -> str:
    if node["takes_new_flows"]:
        reason = node["weight_reason"]
        return f", of which {node['effective_weight']:.4g} counts now: {reason}" if reason else ""
    if node["draining"]:
        why = "draining"
    elif node["weight"] == 0:
        why = "weight 0"
    elif node["state"] != "routable":
        why = f"{node['state']}, {node['reason']}" if node["reason"] else node["state"]
    else:
        why = "its MAC address is not known yet"
    return f", but gets no new connections now: {why}"


def _state(node: Json) -> Text:
    state = Text(plain(node["state"]), STATE_STYLES.get(node["state"], ""))
    if node["draining"]:
        return Text("draining", WARN) if node["state"] == "routable" else state.append(", draining")
    return state


def _weight(node: Json) -> Text:
    notes = [] if node["operator_weight"] is None else [f"own {node['own_weight']}"]
    weight = str(node["weight"])
    if node["takes_new_flows"] and node["weight_reason"]:
        weight = f"{node['effective_weight']:.4g} of {weight}"
        notes.append(plain(node["weight_reason"]))
    return Text(f"{weight} ({'; '.join(notes)})" if notes else weight)


def _node_note(node: Json) -> Text:
    notes = [node["unroutable_reason"] or node["reason"]]
    if node["neighbour"] is None and node["state"] == "routable" and not notes[0]:
        notes.append("its MAC address is not known yet")
    if node["failures"]:
        notes.append(f"failed {times(node['failures'])}")
    notes.append(_words(node.get("health", ())))
    state = "" if node["draining"] else node["state"]
    return styled("; ".join(note for note in notes if note and note != state))


def _words(node_health: Sequence[Json]) -> str:
    """Return who says what; one source alone is quoted by the reason already."""
    words = (f"{one['source']}: {one['word']}" for one in node_health)
    return ", ".join(words) if len(node_health) > 1 else ""


def _dropped(service: Json) -> Text:
    line = Text(f"{plain(service['name'])} dropped: ")
    for position, (name, count) in enumerate(service["drops"].items()):
        style = BAD if name in UNEXPECTED_REASONS else ""
        line.append(", " if position else "")
        line.append(f"{plain(name)} {count['packets']:,}", style)
    return line


VIEWS: Mapping[str, Callable[[Any], RenderableType]] = {
    "status": status_view,
    "node": node_view,
    "nodes": nodes_view,
    "services": services_view,
    "flows": flows_view,
    "peers": peers_view,
    "drained": drained_view,
    "weight": weight_view,
}
"""By name; each takes what `galelb.commands.status` read from the API."""
