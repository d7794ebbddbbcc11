# SPDX-License-Identifier: Apache-2.0
"""announce_bgp: has bird announce VIPs by BGP, from every balancer that can forward."""

from __future__ import annotations

from galelb.announcer import Announcer
from galelb.hooks import hookimpl


@hookimpl
def galelb_register_announcers() -> list[type[Announcer]]:
    """Register the announcer."""
    from galelb_plugins.announce_bgp.plugin import AnnounceBgp

    return [AnnounceBgp]
