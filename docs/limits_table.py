# SPDX-License-Identifier: Apache-2.0
"""The limits that the code has, for docs/reference/limits.md."""

from __future__ import annotations

from galelb.config.models import ForwardingSection
from galelb.config.option_schema import describe_model
from galelb.datapath.limits import MAX_KNOWN_NODES, MAX_SERVICES, limits_for
from galelb.plugins import Plugins

MIB = 1 << 20


def limits() -> str:
    """Return what there can be at most, and the keys that change it."""
    plugins = Plugins.discover(environ={})
    nat = {one.name: one.default for one in describe_model(plugins.options("l4_nat"))}
    slots = {one.name: one.default for one in describe_model(ForwardingSection)}["table_size"]
    usual = limits_for((), int(str(slots)))
    rows = (
        ("nodes at a time", f"{MAX_KNOWN_NODES:,}", "-"),
        ("services, all that there ever were since the last `galelb detach`", f"{MAX_SERVICES:,}",
         "-"),
        ("next hops", f"{usual.max_next_hops:,}", "-"),
        ("slots of a lookup table", f"{int(str(slots)):,}", "`table_size` in `[forwarding]`"),
        ("flows of l4_nat, per address family", f"{int(str(nat['max_flows'])):,}", "`max_flows`"),
        ("slices of source ports of l4_nat, per address family", str(nat["max_slices"]),
         "`max_slices`, `ports`, `source_addresses`"),
    )  # fmt: skip
    lines = ["| what | at most, by default | changed by |", "|---|---|---|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"
