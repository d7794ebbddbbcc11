# SPDX-License-Identifier: Apache-2.0
"""health_probe: the balancer checks its nodes by tcp, http or grpc, on the VIP where it matters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from galelb.hooks import hookimpl

if TYPE_CHECKING:
    from galelb.sources import HealthSource


@hookimpl
def galelb_register_health_sources() -> list[type[HealthSource]]:
    """Register the source."""
    from galelb_plugins.health_probe.plugin import HealthProbe

    return [HealthProbe]
