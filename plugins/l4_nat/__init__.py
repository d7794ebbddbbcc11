# SPDX-License-Identifier: Apache-2.0
"""l4_nat: stateful NAT with connection tracking."""

from __future__ import annotations

from galelb.forwarder import Forwarder
from galelb.hooks import hookimpl


@hookimpl
def galelb_register_forwarders() -> list[type[Forwarder]]:
    """Register the forwarder."""
    from galelb_plugins.l4_nat.plugin import L4Nat

    return [L4Nat]
