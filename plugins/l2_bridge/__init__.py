# SPDX-License-Identifier: Apache-2.0
"""l2_bridge: stateless rewriting of MAC addresses; nodes answer clients directly."""

from __future__ import annotations

from galelb.forwarder import Forwarder
from galelb.hooks import hookimpl


@hookimpl
def galelb_register_forwarders() -> list[type[Forwarder]]:
    """Register the forwarder."""
    from galelb_plugins.l2_bridge.plugin import L2Bridge

    return [L2Bridge]
