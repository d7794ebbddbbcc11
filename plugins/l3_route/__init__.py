# SPDX-License-Identifier: Apache-2.0
"""l3_route: stateless routing to nodes, in tunnels or not; nodes answer clients directly."""

from __future__ import annotations

from galelb.forwarder import Forwarder
from galelb.hooks import hookimpl


@hookimpl
def galelb_register_forwarders() -> list[type[Forwarder]]:
    """Register the forwarder."""
    from galelb_plugins.l3_route.plugin import L3Route

    return [L3Route]
