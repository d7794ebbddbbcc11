# SPDX-License-Identifier: Apache-2.0
"""What `galelb peers` prints for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from galelb.commands.text import BAD, FAINT, GOOD, WARN, columns, duration, endpoint, styled

__all__ = ["peers_view"]

Json = Mapping[str, Any]

_STANDING = {"quorate": GOOD, "forming": WARN, "cut off": BAD}


def peers_view(answer: Json) -> RenderableType:
    """Return this balancer's place in the group and the others, or that there is no group."""
    peers, group = answer["peers"], answer["group"]
    if not peers and group is None:
        return Text(
            "No peers: this balancer works alone "
            "([load_balancer_quorum] addresses names no other one)."
        )
    parts: list[RenderableType] = [] if group is None else [*_group(group), Text()]
    return Group(*parts, _table(peers))


def _group(group: Json) -> list[RenderableType]:
    standing = group["standing"]
    line = Text(f"{group['name']}: ")
    line.append(standing, _STANDING.get(standing, ""))
    line.append(f", {group['alive']} of {group['configured']} balancers by {group['transport']}")
    if not group["ready"]:
        line.append(", not ready for addresses", WARN)
    lines: list[RenderableType] = [line]
    owners: dict[str, list[str]] = {}
    for vip, owner in group["vips"].items():
        owners.setdefault(owner, []).append(vip)
    lines += [
        styled(f"{'VIPs of ' + owner if owner else 'VIPs of nobody'}: {', '.join(vips)}")
        for owner, vips in sorted(owners.items())
    ]
    if group["sources"]:
        lines.append(styled(f"Translation addresses here: {', '.join(group['sources'])}"))
    return lines


def _table(peers: Sequence[Json]) -> RenderableType:
    table = columns(
        "PEER", "ADDRESS", "STATE", "VERSION", "CONFIG", "TABLES", ">LAST SEEN", ">COPY", "NOTE"
    )
    for peer in peers:
        seen = peer["last_seen_s"]
        table.add_row(
            styled(peer["name"] or "-"),
            styled(endpoint(peer["address"], peer["port"])),
            _state(peer),
            styled(peer["version"] or "-"),
            _same(peer["same_config"]),
            _same(peer["same_tables"]),
            styled("never" if seen is None else f"{duration(seen)} ago" if seen else "now"),
            _copy(peer),
            styled(peer["note"]),
        )
    return table


def _state(peer: Json) -> Text:
    if not peer["alive"]:
        return Text("left", FAINT) if peer["left"] else Text("dead", BAD)
    return Text("joining", WARN) if peer["ready"] is False else Text("alive", GOOD)


def _same(same: bool | None) -> Text:
    if same is None:
        return Text("unknown", FAINT)
    return Text("same", GOOD) if same else Text("differs", BAD)


def _copy(peer: Json) -> Text:
    """Say how far our copy of its connections is behind."""
    if peer["copy_complete"] is None:
        return Text("-", FAINT)
    if not peer["copy_complete"]:
        return Text("partial", WARN)
    behind = peer["copy_behind_s"]
    return Text("?" if behind is None else f"{duration(behind)} behind")
