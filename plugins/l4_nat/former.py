# SPDX-License-Identifier: Apache-2.0
"""Reads the flows in tables of another size, which an earlier run or configuration left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from galelb_plugins.l4_nat.codec import slice_from_leaf, slice_key_from_struct
from galelb_plugins.l4_nat.layout import macros
from galelb_plugins.l4_nat.options import L4NatOptions
from galelb_plugins.l4_nat.planner import Planner

from galelb.flowshare import FlowShare
from galelb.forwarder import BpfMap, DataPath, ForwardingView, HostView
from galelb.model import Service

__all__ = ["FLOW_MAPS", "flow_layout", "former_flows"]

FORMAT = 1
"""Raise it with every change of what entries, slots or slices mean, and of their structs."""

MARGIN = 256
"""Ports of a slice that may be taken while flows are brought over."""

FLOW_MAPS = (
    "l4_nat_flows4",
    "l4_nat_flows6",
    "l4_nat_returns4",
    "l4_nat_returns6",
    "l4_nat_ports4",
    "l4_nat_ports6",
    "l4_nat_slices",
    "l4_nat_slice_ids",
    "l4_nat_cursors",
    "l4_nat_sources",
    "l4_nat_lease",
)
_SIZES = (
    "L4_NAT_BUCKETS4",
    "L4_NAT_BUCKETS6",
    "L4_NAT_MAX_SLICES",
    "L4_NAT_PORT_SLOTS4",
    "L4_NAT_PORT_SLOTS6",
)


def flow_layout(options: L4NatOptions, services: Sequence[Service], host: HostView) -> str:
    """Return what decides how entries are read: the format, the mode and all sizes.

    Slices have their places by the sizes, so entries of one size mean nothing beside slices of
    another.
    """
    numbers = macros(options, services, host)
    return " ".join(str(part) for part in (FORMAT, options.mode, *(numbers[n] for n in _SIZES)))


def former_flows(
    options: L4NatOptions,
    former: DataPath,
    datapath: DataPath,
    layout: str,
    view: ForwardingView,
) -> FlowShare | None:
    """Return how to read these maps; None = they are of another format."""
    if layout.partition(" ")[0] != str(FORMAT):
        return None
    from galelb_plugins.l4_nat.share import NatShare  # numpy is for who needs it

    _go_on_with_ports(former.maps, datapath.maps)
    planner = Planner(options)
    planner.view = view
    return NatShare(options, planner, former, view.host)


def _go_on_with_ports(former: Mapping[str, BpfMap], now: Mapping[str, BpfMap]) -> None:
    """Have searches for ports go on where they were.

    Which ports closed lately is not brought over, and nodes still remember them: a search from
    the start would meet those first.
    """
    before = {
        slice_key_from_struct(k): slice_from_leaf(v) for k, v in former["l4_nat_slices"].items()
    }
    cursors: dict[int, int] = {}
    for struct, leaf in now["l4_nat_slices"].items():
        part, old = slice_from_leaf(leaf), before.get(slice_key_from_struct(struct))
        if old is not None and old.count and part.count:
            at = former["l4_nat_cursors"].get(old.id) or 0
            port = old.first_port + (at + MARGIN) % old.count
            cursors[part.id] = (port - part.first_port) % part.count
    now["l4_nat_cursors"].update(cursors)
