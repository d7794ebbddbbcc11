# SPDX-License-Identifier: Apache-2.0
"""health_grpc: nodes report their health over gRPC."""

from __future__ import annotations

from typing import TYPE_CHECKING

from galelb.hooks import hookimpl

if TYPE_CHECKING:
    from galelb.sources import HealthSource


@hookimpl
def galelb_register_health_sources() -> list[type[HealthSource]]:
    """Register the gRPC server that nodes report to."""
    from galelb_plugins.health_grpc.plugin import HealthGrpc

    return [HealthGrpc]
