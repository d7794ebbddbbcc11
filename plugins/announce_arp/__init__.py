# SPDX-License-Identifier: Apache-2.0
"""announce_arp: tells neighbours by ARP and neighbour discovery which balancer has a VIP."""

from __future__ import annotations

from galelb.announcer import Announcer
from galelb.hooks import hookimpl


@hookimpl
def galelb_register_announcers() -> list[type[Announcer]]:
    """Register the announcer."""
    from galelb_plugins.announce_arp.plugin import AnnounceArp

    return [AnnounceArp]
