# SPDX-License-Identifier: Apache-2.0
"""Says events of the API in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from galelb.top.values import Happening

__all__ = ["happening"]

Json = Mapping[str, Any]


def happening(event: Json) -> Happening:
    """Return an event as a line; one of a kind that is not known here is told by its facts."""
    moment = datetime.fromisoformat(event["time"]).astimezone()
    say = _WORDS.get(event["event"], _facts)
    try:
        text = say(event)
    except (KeyError, TypeError):  # a balancer of another version
        text = _facts(event)
    return Happening(f"{moment:%H:%M:%S}", text)


def _node(event: Json) -> str:
    return str(event["name"] or event["node"])


def _state(event: Json) -> str:
    why = f": {event['reason']}" if event["reason"] else ""
    return f"{_node(event)}: {event['old_state']} -> {event['state']}{why}"


def _table(event: Json) -> str:
    return f"{event['service']}: new table, {event['moved_share']:.1%} moved"


def _drains(event: Json) -> str:
    return f"{_node(event)} {'drains' if event['draining'] else 'drains no longer'}"


def _peer(event: Json) -> str:
    return f"balancer {event['peer']} is {'alive' if event['alive'] else 'gone'}"


def _facts(event: Json) -> str:
    facts = (f"{k}={v}" for k, v in event.items() if k not in {"id", "time", "event"} and v)
    return " ".join([str(event["event"]), *facts])


_WORDS: Mapping[str, Callable[[Json], str]] = {
    "node_joined": lambda e: f"{_node(e)} joined: {e['state']}",
    "node_left": lambda e: f"{_node(e)} left",
    "node_state": _state,
    "node_draining": _drains,
    "node_weight": lambda e: f"{_node(e)} has weight {e['weight']:g}",
    "node_neighbour": lambda e: f"{_node(e)} has the next hop {e['neighbour'] or 'nobody knows'}",
    "table_changed": _table,
    "attached": lambda e: f"{e['interface']}: program attached ({e['mode']})",
    "detached": lambda e: f"{e['interface']}: no program any more",
    "peer_changed": _peer,
    "config_reloaded": lambda e: f"configuration {e['config_digest'][:8]} is in force",
    "config_refused": lambda e: f"configuration refused: {e['reason']}",
    "flows_carried": lambda e: f"{e['forwarder']}: {e['added']} flows went to new tables",
    "flows_lost": lambda e: f"{e['forwarder']}: flows are lost: {e['reason']}",
    "started": lambda e: f"started{', took over' if e['adopted'] else ''}",
    "stopping": lambda _: "stopping",
}
