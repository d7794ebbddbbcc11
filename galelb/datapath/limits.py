# SPDX-License-Identifier: Apache-2.0
"""Sizes of the pipeline's maps; powers of two, so that they seldom change."""

from __future__ import annotations

from collections.abc import Iterable

from galelb.bpf.pipeline import Limits
from galelb.tables import slots_needed

__all__ = ["MAX_KNOWN_NODES", "MAX_NODES", "MAX_SERVICES", "limits_for"]

MAX_NODES = 4095
"""Most nodes of a balancer; indices of nodes are 1 to this."""
MAX_KNOWN_NODES = MAX_NODES - 512
"""Most nodes at a time: the number of one that is forgotten is not free at once."""
MAX_SERVICES = 4095
"""Most services that a balancer has ever had; ids are 1 to this."""

_NEXT_HOPS = 16384
_EVENT_BYTES = 1 << 16
_FEWEST_SERVICES = 16
_FEWEST_SPARE_TABLES = 4


def limits_for(service_ids: Iterable[int], table_size: int) -> Limits:
    """Return the sizes for services with these ids.

    Each service may have a table of its own, and some more fit for tables that are being
    replaced. Programs read only what services point at.
    """
    services = _power_of_two(max([*service_ids, _FEWEST_SERVICES - 1]) + 1)
    tables = services + max(_FEWEST_SPARE_TABLES, services // 4)
    return Limits(
        max_services=services,
        max_nodes=MAX_NODES + 1,
        max_next_hops=_NEXT_HOPS,
        max_slots=slots_needed(table_size, tables),
        event_bytes=_EVENT_BYTES,
        table_size=table_size,
    )


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()
