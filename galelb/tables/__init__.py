# SPDX-License-Identifier: Apache-2.0
"""Lookup tables: which node a slot names, how tables are built and where they lie in gale_slots."""

from galelb.tables.values import (
    SLOTS_PER_ELEMENT,
    Region,
    SlotSpace,
    TableSpec,
    digest,
    moved,
    pack,
    slots_needed,
)

__all__ = [
    "SLOTS_PER_ELEMENT",
    "Region",
    "SlotSpace",
    "TableSpec",
    "digest",
    "moved",
    "pack",
    "slots_needed",
]
