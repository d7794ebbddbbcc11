# SPDX-License-Identifier: Apache-2.0
"""What decides when a node gets traffic, and how much."""

from __future__ import annotations

import attrs

__all__ = ["HealthSettings"]


@attrs.frozen(kw_only=True)
class HealthSettings:
    """`[node_health]` of the configuration; durations in seconds."""

    checks_before_routing: int = 3
    checks_timeout: float = 5.0
    black_list_after_fails: int = 5
    """-1 turns the black list off."""
    black_list_expiry: float = 300.0
    slow_start: float = 0.0
    """How long the share of a node that gets flows again grows; 0 = it gets all of it at once."""
    load_weight: bool = False
    """Whether busy nodes get less."""
