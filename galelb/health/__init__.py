# SPDX-License-Identifier: Apache-2.0
"""The health of nodes: reports, silence and the operator decide who is routable; sans-IO."""

from galelb.health.registry import (
    MAX_WEIGHT,
    HealthSettings,
    NodeHealth,
    NoSuchNodeError,
    TooManyNodesError,
)

__all__ = ["MAX_WEIGHT", "HealthSettings", "NoSuchNodeError", "NodeHealth", "TooManyNodesError"]
