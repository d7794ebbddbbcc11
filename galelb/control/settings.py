# SPDX-License-Identifier: Apache-2.0
"""Sections of the configuration as the parts of the control plane take them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from galelb.health import HealthSettings
from galelb.tables.keeper import TableSettings

if TYPE_CHECKING:
    from galelb.config import BalancerConfig

__all__ = ["health_settings", "in_group", "table_settings"]


def health_settings(config: BalancerConfig) -> HealthSettings:
    """Return the rules for nodes."""
    section = config.node_health
    return HealthSettings(
        checks_before_routing=section.checks_before_routing,
        checks_timeout=section.checks_timeout,
        black_list_after_fails=section.black_list_after_fails,
        black_list_expiry=section.black_list_expiry,
        slow_start=section.slow_start,
        load_weight=section.load_weight,
    )


def in_group(config: BalancerConfig) -> bool:
    """Whether others are told anything: peers by a transport, or the network by an announcer."""
    return config.load_balancer_quorum.transport is not None or config.announce.plugin is not None


def table_settings(config: BalancerConfig) -> TableSettings:
    """Return what lookup tables depend on."""
    return TableSettings(
        size=config.forwarding.table_size,
        seed=config.forwarding.table_seed,
        schedulers={name: _described(name, config) for name in config.schedulers},
    )


def _described(scheduler: str, config: BalancerConfig) -> str:
    """Return a scheduler with its options: other options give other tables."""
    options = config.plugins.get(scheduler)
    values = options.model_dump(mode="json") if options else {}
    return f"{scheduler} {json.dumps(values, sort_keys=True)}" if values else scheduler
