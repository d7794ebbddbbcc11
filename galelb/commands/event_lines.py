# SPDX-License-Identifier: Apache-2.0
"""Events of the API in words, one line each."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from typing import Any

from galelb.commands.text import endpoint, plain

__all__ = ["event_line", "event_words"]

Event = Mapping[str, Any]


def event_line(event: Event) -> str:
    """Return when it happened, in local time, to whom, and what."""
    who = _who(event)
    return f"{_clock(event['time'])}  {f'{who}: ' if who else ''}{event_words(event)}"


def event_words(event: Event) -> str:
    """Return what happened; unknown events as their name and what they have."""
    words = _WORDS.get(event["event"])
    return plain(words(event)) if words else _unknown(event)


def _clock(text: str) -> str:
    moment = datetime.datetime.fromisoformat(text).astimezone()
    return moment.replace(tzinfo=None).isoformat(sep=" ", timespec="milliseconds")


def _who(event: Event) -> str:
    if "node" in event:
        return plain(f"{event['name']} ({event['node']})" if event["name"] else event["node"])
    for key in ("service", "interface"):
        if key in event:
            return plain(event[key])
    return endpoint(event["peer"], event["port"]) if "peer" in event else ""


def _because(event: Event) -> str:
    return f", {event['reason']}" if event["reason"] not in ("", event["state"]) else ""


def _state(event: Event) -> str:
    return f"{event['old_state']} -> {event['state']}{_because(event)}"


def _neighbour(event: Event) -> str:
    if event["neighbour"] is None:
        return "its MAC address is not known any more"
    return f"its MAC address is {event['neighbour']}"


def _table(event: Event) -> str:
    if not event["digest"]:
        return "no routable node, so no table"
    return f"table {event['digest'][:8]}, {event['moved_share']:.1%} of the slots moved"


def _refused(event: Event) -> str:
    first, *others = event["reason"].split("\n")
    return f"configuration refused: {first}{f' (and {len(others)} more)' if others else ''}"


def _started(event: Event) -> str:
    took = ", took over from an earlier run" if event["adopted"] else ""
    return f"galelb {event['version']} forwards{took}"


def _unknown(event: Event) -> str:
    facts = [f"{k}={v}" for k, v in event.items() if k not in ("id", "time", "event")]
    return plain(" ".join([event["event"], *facts]))


def _carried(event: Event) -> str:
    left = ", ".join(f"{event[word]} {word}" for word in ("refused", "waiting") if event[word])
    return f"{event['added']} flows went to new tables{f' ({left})' if left else ''}"


_WORDS: Mapping[str, Callable[[Event], str]] = {
    "node_joined": lambda event: f"joined, {event['state']}{_because(event)}",
    "node_left": lambda event: f"is gone{_because(event)}",
    "node_state": _state,
    "node_draining": lambda event: "drains" if event["draining"] else "drains no longer",
    "node_weight": lambda event: f"weight {event['weight']:.4g}",
    "node_neighbour": _neighbour,
    "table_changed": _table,
    "attached": lambda event: f"attached, {event['mode']}",
    "detached": lambda event: "detached",
    "peer_changed": lambda event: "alive" if event["alive"] else "dead",
    "config_reloaded": lambda event: f"configuration {event['config_digest'][:8]} is in force",
    "config_refused": _refused,
    "flows_carried": _carried,
    "flows_lost": lambda event: f"flows could not go to new tables: {event['reason']}",
    "started": _started,
    "stopping": lambda event: "the balancer stops",
    "gap": lambda event: "some events are missing here",
}
